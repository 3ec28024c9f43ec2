"""The figures of a run, drawn with matplotlib without pyplot's global state; None for a figure that does not apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from adjobs.reporting.figures.annotation import LabelledRun, annotation
from adjobs.reporting.figures.comparison import ComparedMethod, comparison
from adjobs.reporting.figures.curves import confusion, histogram, pr, pro, roc
from adjobs.reporting.figures.defects import defects
from adjobs.reporting.figures.gallery import Case, galleries, gallery, select_cases
from adjobs.reporting.figures.gate import gate
from adjobs.reporting.figures.search import TrialSummary, of_search
from adjobs.reporting.figures.training import History, training
from adjobs.types import ImageScores

if TYPE_CHECKING:
    from adjobs.evaluation.result import SplitMetrics

__all__ = [
    "Case",
    "ComparedMethod",
    "Figure",
    "History",
    "LabelledRun",
    "TrialSummary",
    "annotation",
    "comparison",
    "confusion",
    "defects",
    "galleries",
    "gallery",
    "gate",
    "histogram",
    "of_search",
    "of_split",
    "pr",
    "pro",
    "roc",
    "select_cases",
    "training",
]


def of_split(scores: ImageScores, threshold: float, split: str, metrics: SplitMetrics) -> dict[str, Figure]:
    """All figures of one split except the galleries, by name; those that do not apply are left out.

    Args:
        scores: of the split.
        threshold: for images.
        split: its name.
        metrics: of the split at this threshold.
    """
    figures = {
        "histogram": histogram(scores, threshold, split),
        "confusion": confusion(scores, threshold, split),
        "roc": roc(scores, threshold, split, metrics.overall),
        "pr": pr(scores, threshold, split, metrics.overall),
        "pro": pro(scores, split, metrics.overall),
        "defects": defects(metrics.counts, metrics.by_defect, split),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}
