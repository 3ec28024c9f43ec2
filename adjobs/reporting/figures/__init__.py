"""The pictures of a run, as matplotlib figures. Built without pyplot's global state; None where a picture has no sense."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from adjobs.reporting.figures.annotation import Labelled, annotation
from adjobs.reporting.figures.curves import confusion, histogram, pr, pro, roc
from adjobs.reporting.figures.defects import defects
from adjobs.reporting.figures.gallery import Case, galleries, gallery, scores_in_masks
from adjobs.reporting.figures.search import Tried, of_search
from adjobs.reporting.figures.training import History, training
from adjobs.types import ImageScores

if TYPE_CHECKING:
    from adjobs.evaluation.result import SplitMetrics

__all__ = [
    "Case",
    "History",
    "Labelled",
    "Tried",
    "annotation",
    "confusion",
    "defects",
    "galleries",
    "gallery",
    "histogram",
    "of_part",
    "of_search",
    "pick",
    "pr",
    "pro",
    "roc",
    "training",
]


def of_split(scores: ImageScores, threshold: float, part: str, measures: SplitMetrics) -> dict[str, Figure]:
    """All figures of one part but the galleries, by name; those that have no sense for it are left out.

    Args:
        scores: of the part.
        threshold: where images are decided.
        part: its name.
        measures: of the part at this threshold.
    """
    drawn = {
        "histogram": histogram(scores, threshold, part),
        "confusion": confusion(scores, threshold, part),
        "roc": roc(scores, threshold, part, measures.overall),
        "pr": pr(scores, threshold, part, measures.overall),
        "pro": pro(scores, part, measures.overall),
        "defects": defects(measures.counts, measures.by_defect, part),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}
