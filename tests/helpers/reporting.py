"""An artificial run for tests of the report, and a parser of the page."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from adjobs.data.splits.assignment import SplitAssignment
from adjobs.metrics.intervals import Estimate
from adjobs.metrics.policies import ThresholdPolicy
from adjobs.metrics.threshold import choose_threshold
from adjobs.reporting import page
from adjobs.reporting.report import MetricGroup, RunReport, SplitReport
from adjobs.types import JobStatus

VOID = {"meta", "img", "br", "hr", "link", "input"}
THRESHOLD = choose_threshold(ThresholdPolicy("max_fpr", 0.02), [0] * 50 + [1] * 4, np.arange(54.0))


class Page(HTMLParser):
    """A page's text, tags and attributes; tags must be closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.tags, self.attributes, self.stack = "", [], [], []
        self.feed(source)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "style" not in self.stack:
            self.text += f" {data}"

    def values_of(self, tag: str, name: str) -> list[str]:
        """Values of an attribute of all tags of a kind."""
        return [value for t, n, value in self.attributes if (t, n) == (tag, name)]


def png(grey: int = 128) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((30, 40), grey, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def report(**changes) -> RunReport:
    """A finished run."""
    test = SplitReport(
        {"image_auroc": Estimate(0.912, 0.88, 0.94), "pixel_ap": Estimate(None, reason="no masks")},
        {"crack": MetricGroup(7, {"image_recall": Estimate(0.4286, 0.1, 0.8)})},
        {"small": MetricGroup(None, {"au_pro": Estimate(0.5, 0.25, 0.75)})},
    )
    finished = RunReport(
        run_id="a" * 32,
        name="cdo-tiles",
        experiment="line 3",
        status=JobStatus.FINISHED,
        started_at=datetime(2026, 11, 22, 14, 3, tzinfo=UTC),
        ended_at=datetime(2026, 11, 22, 14, 5, 30, tzinfo=UTC),
        tags={"method": "cdo", "version": "0.1.0", "git_commit": "b695732", "metrics_version": "1", "selected_checkpoint": "2"},
        job="method: cdo\n",
        split=SplitAssignment("holdout", 5, ("good/0.png",), ("good/1.png",), ("good/2.png", "bad/3.png")),
        data={
            "uri": "s3://factory/tiles",
            "format": "folder",
            "fingerprint": "9f86d081",
            "counts": {"train/normal": 1, "test/normal": 1, "test/anomalous": 7},
        },
        splits={"test": test, "val": SplitReport({"image_auroc": Estimate(0.8)})},
        confidence=0.95,
        thresholds={"image": THRESHOLD.to_dict(), "pixel": None, "history": []},
        excluded=({"sample": "good/9.png", "kind": "truncated", "message": "ends early; copy it again"},),
        warnings=({"sample": "", "kind": "few", "message": "has 12 normal images"},),
        history={"train/loss": [(1, 2.0), (2, 1.0)]},
        figures={"test_roc": png(), "test_gallery_misses": png(), "val_roc": png()},
        card="# cdo\n\nIdea.",
    )
    return replace(finished, **changes)


def render_page(*reports: RunReport) -> Page:
    return Page(page.render(reports or [report()]))


def text_from(parsed: Page, start: str) -> str:
    """The page's text from a phrase on, in single spaces."""
    text = " ".join(parsed.text.split())
    return text[text.index(start) :]
