"""A run's figures as they are embedded in the page: PNG bytes in data URIs, with their captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from adjobs.reporting import figures
from adjobs.reporting.figures.style import DPI
from adjobs.reporting.report import RunReport
from adjobs.reporting.templates import data_uri, figure_png

PAGE_DPI = 108  # an inch of a figure on the page, in its pixels: type of 8.5 points is as large as a caption's
CAPTIONS = {
    "histogram": "Scores of normal and of anomalous images. Each tick under the bars is one image; right of the dashed line an "
    "image raises an alarm.",
    "confusion": "Decisions at the threshold.",
    "roc": "Recall (share of anomalies detected) against false-alarm rate, for every threshold. The dot is the threshold in use.",
    "pr": "Precision (share of alarms that are correct) against recall, for every threshold. The dot is the threshold in use.",
    "pro": "Share of the defects' area that is detected against the false-alarm rate of defect-free pixels; each defect region "
    "weighs the same.",
    "defects": "Share of each type that is detected at the threshold, and how well its scores stand out from those of normal "
    "images.",
    "gallery_misses": "Anomalies that the threshold misses, the lowest scores first.",
    "gallery_false_alarms": "Normal images that raise an alarm, the highest scores first.",
    "gallery_hits": "Anomalies with the highest scores.",
    "training": "The training, checkpoint by checkpoint.",
    "annotation": "How well defects are located against the labels that a run learned from. Each marker is one run, the line its "
    "interval.",
}


class EmbeddedFigure(NamedTuple):
    """A figure on the page: ``uri`` holds its bytes, ``width`` and ``height`` are in pixels of the page."""

    name: str
    caption: str
    uri: str
    width: int
    height: int


def embed_figures(report: RunReport) -> list[EmbeddedFigure]:
    """The run's figures in the order of the captions, and its training history, which a run that failed has not drawn itself."""
    contents = dict(report.figures)
    if "training" not in contents:
        selected = report.tags.get("selected_checkpoint", "")
        drawn = figures.training(report.history, int(selected) if selected.isdigit() else None)
        if drawn is not None:
            contents["training"] = figure_png(drawn)
    order = list(CAPTIONS)

    def position(name: str) -> tuple[int, str]:
        kind = _kind(name)
        return (order.index(kind) if kind in CAPTIONS else len(order), name)

    return [_embed(name, contents[name]) for name in sorted(contents, key=position)]


def embed_annotation(reports: Sequence[RunReport]) -> EmbeddedFigure | None:
    """The figure of what labels are worth; None if all runs learned from the same labels."""
    runs = [
        figures.LabelledRun(
            report.tags.get("method", ""), report.tags.get("supervision", ""), report.splits["test"].overall["pixel_ap"]
        )
        for report in reports
        if "test" in report.splits and "pixel_ap" in report.splits["test"].overall
    ]
    drawn = figures.annotation(runs)
    return None if drawn is None else _embed("annotation", figure_png(drawn))


def _embed(name: str, content: bytes) -> EmbeddedFigure:
    width, height = (round(int.from_bytes(content[at : at + 4], "big") * PAGE_DPI / DPI) for at in (16, 20))  # PNG's header
    return EmbeddedFigure(name, CAPTIONS.get(_kind(name), name), data_uri(content), width, height)


def _kind(name: str) -> str:
    """The name of a figure without its split: ``roc`` for ``test_roc``."""
    return name.removeprefix("test_").removeprefix("val_")
