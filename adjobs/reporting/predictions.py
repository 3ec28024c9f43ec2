"""The page of a folder of predictions: overlays with captions, the truth where it is known, and totals.

It shows the images of its own folder, and loads nothing from elsewhere. Of many images it shows those that matter most, so that
neither the page nor what is held in memory grows with their number.
"""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from adjobs.inference.truth import Truth
from adjobs.reporting.templates import environment
from adjobs.version import __version__

TEMPLATE = "predictions.html.j2"

MAX_SHOWN = 100
"""Images of each section."""


@dataclass
class TruthCounts:
    """Decisions of images whose label is known: of anomalous ones how many were detected, of normal ones how many alarms."""

    anomalous: int = 0
    detected: int = 0
    normal: int = 0
    false_alarms: int = 0

    def add(self, truth: Truth, decision: str) -> None:
        """Count an image."""
        is_alarm = decision == "anomalous"
        if truth.is_anomalous:
            self.anomalous, self.detected = self.anomalous + 1, self.detected + is_alarm
        else:
            self.normal, self.false_alarms = self.normal + 1, self.false_alarms + is_alarm

    def sentence(self) -> str:
        """In words; "" if no label is known.

        >>> TruthCounts(20, 18, 40, 1).sentence()
        'of 60 images with a label: 18 of 20 anomalous ones detected, 1 false alarm among 40 normal ones'
        """
        alarms = "1 false alarm" if self.false_alarms == 1 else f"{self.false_alarms} false alarms"
        terms = [f"{self.detected} of {self.anomalous} anomalous ones detected"] if self.anomalous else []
        terms += [f"{alarms} among {self.normal} normal ones"] if self.normal else []
        count = self.anomalous + self.normal
        return f"of {count} {'image' if count == 1 else 'images'} with a label: {', '.join(terms)}" if terms else ""


@dataclass
class Section:
    """Images of one kind; of more than can be shown those with the highest scores."""

    title: str
    note: str
    count: int = 0
    _heap: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)

    def add(self, line: dict[str, Any]) -> None:
        """Count a line, and keep it if it is among those that are shown."""
        self.count += 1
        entry = (line["score"], -self.count, line)
        if len(self._heap) < MAX_SHOWN:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Those that are shown, the highest score first."""
        return [line for _, _, line in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


@dataclass
class PredictionPage:
    """What the page shows; made of lines, one by one.

    Attributes:
        model: as it was named.
        threshold: images are anomalous from this score on.
        truth: labels of the images by name, where they are known.
    """

    model: str
    threshold: float
    truth: Mapping[str, Truth]
    counts: TruthCounts = field(default_factory=TruthCounts)
    images: int = 0
    alarms: int = 0
    warnings: int = 0
    failures: list[str] = field(default_factory=list)
    failed: int = 0

    def __post_init__(self) -> None:
        self._sections = {
            (True, "normal"): Section("Missed", "anomalous by their label, below the threshold"),
            (False, "anomalous"): Section("False alarms", "normal by their label, at or above the threshold"),
            (True, "anomalous"): Section("Detected", "anomalous by their label, at or above the threshold"),
            (None, "anomalous"): Section("Alarms", "at or above the threshold; whether they are right is not known"),
            (None, "normal"): Section("No alarm", "below the threshold, the nearest first; whether they are right is not known"),
            (False, "normal"): Section("Normal, no alarm", "normal by their label, the nearest to the threshold first"),
        }

    def add_all(self, lines: Iterable[dict[str, Any]]) -> PredictionPage:
        """Add the lines of a folder; returns the page."""
        for line in lines:
            self.add(line)
        return self

    def add(self, line: dict[str, Any]) -> None:
        """Add a line of the folder."""
        self.images += 1
        if "error" in line:
            self.failed += 1
            if len(self.failures) < MAX_SHOWN:
                self.failures.append(line["error"])
            return
        self.alarms += line["decision"] == "anomalous"
        self.warnings += "warning" in line
        truth = self.truth.get(line["path"])
        if truth is not None:
            self.counts.add(truth, line["decision"])
        self._sections[None if truth is None else truth.is_anomalous, line["decision"]].add(line)

    def render(self) -> str:
        """The page as HTML."""
        templates = environment()
        templates.filters |= {"address": _address, "label": self._label}
        return templates.get_template(TEMPLATE).render(
            page=self,
            sections=[section for section in self._sections.values() if section.count],
            common=_common_folder(line["path"] for section in self._sections.values() for line in section.lines),
            version=__version__,
        )

    def _label(self, line: dict[str, Any]) -> str:
        """What is known of an image, in words; "" if nothing is."""
        truth = self.truth.get(line["path"])
        if truth is None:
            return ""
        return f"anomalous: {truth.defect}" if truth.defect else "anomalous" if truth.is_anomalous else "normal"


def _address(line: dict[str, Any]) -> str:
    """The overlay of a line as an address in the page's folder; "" without one."""
    overlay = line.get("overlay")
    return f"./{quote(os.fsencode(PurePosixPath(overlay).name))}" if overlay else ""


def _common_folder(paths: Iterable[str]) -> str:
    """The start that paths have in common, up to and with a slash; captions leave it out."""
    split = [path.split("/")[:-1] for path in paths]
    common = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*split, strict=False))
    return "".join(f"{names[0]}/" for names in common)
