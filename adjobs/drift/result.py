"""What was measured, test by test, and what follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from adjobs.drift.options import DriftOptions
from adjobs.metrics.intervals import Estimate

TestName = Literal["scores", "statistics", "features"]


@dataclass(frozen=True)
class TestOutcome:
    """One of the tests.

    Attributes:
        name: scores: of the detector; statistics: the simple ones, all together; features: of the pretrained network.
        p_value: of any change beyond the allowed share of anomalous images.
        level: the test shows drift if its p-value is at most this: its share of alpha.
        has_drifted: whether it does.
        sentence: what it found.
    """

    __test__ = False  # not a test of pytest

    name: TestName
    p_value: float
    level: float
    has_drifted: bool
    sentence: str


@dataclass(frozen=True)
class StatisticShift:
    """A simple statistic of both samples.

    Attributes:
        name: such as ``brightness``.
        unit: of the medians, or "".
        reference: median of the reference images.
        recent: median of the recent images.
        probability: that a recent image has a higher value than a reference image; 0.5 without a change.
        p_value: corrected for the number of statistics.
        has_shifted: whether the p-value shows drift.
    """

    name: str
    unit: str
    reference: float
    recent: float
    probability: float
    p_value: float
    has_shifted: bool

    @property
    def change(self) -> str:
        """Such as ``brightness 112 → 96 grey levels``."""
        return f"{self.name} {number(self.reference)} → {number(self.recent)}" + (f" {self.unit}" if self.unit else "")


@dataclass(frozen=True)
class DifferentImage:
    """A recent image that differs from the reference.

    Attributes:
        name: path or address.
        score: of the detector.
        distance: of its most unusual value from the reference's median, in robust standard deviations.
        reason: that value, beside the range of 95 % of the reference.
    """

    name: str
    score: float
    distance: float
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What two samples show.

    Attributes:
        has_drifted: None: too few images to tell.
        tests: in order; each has an equal share of alpha.
        statistics: simple statistics of both samples; empty without reference images.
        higher_scores: probability that a recent image has a higher score than a reference image, with DeLong's interval of 95 %.
        detectable_shift: shift of the scores, in standard deviations, that would be seen with probability 0.8; None: none.
        needed_images: number of recent images with which the required shift would be detectable; None where it is detectable, or
            no number is enough.
    """

    has_drifted: bool | None
    tests: tuple[TestOutcome, ...]
    statistics: tuple[StatisticShift, ...]
    higher_scores: Estimate
    detectable_shift: float | None
    needed_images: int | None


@dataclass(frozen=True)
class DriftResult:
    """Whether recent images have drifted.

    Attributes:
        model: as the user named it.
        run_id: of the run that trained it.
        threshold: of the detector.
        verdict: what the tests say.
        reference_alarms: share of the reference images that raise an alarm, with the exact interval of 95 %.
        recent_alarms: the same of the recent images.
        n_reference: normal images of the reference.
        n_recent: recent images that were used.
        n_available: recent images that were given.
        unreadable: recent images that could not be read or predicted, with the cause.
        different: recent images that differ most from the reference, the most different first.
        notes: what a reader must know, such as that the reference images could not be read.
        options: how it was measured.
    """

    model: str
    run_id: str
    threshold: float
    verdict: Verdict
    reference_alarms: Estimate
    recent_alarms: Estimate
    n_reference: int
    n_recent: int
    n_available: int
    unreadable: tuple[str, ...]
    different: tuple[DifferentImage, ...]
    notes: tuple[str, ...]
    options: DriftOptions

    @property
    def has_drifted(self) -> bool | None:
        """Whether there is drift; None: too few images to tell."""
        return self.verdict.has_drifted

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        counts = f"{self.n_recent} recent images against {self.n_reference} reference images"
        verdict = self.verdict
        if verdict.has_drifted:
            return f"drift: {'; '.join(test.sentence for test in verdict.tests if test.has_drifted)} ({counts})"
        seen = "no shift would be seen" if verdict.detectable_shift is None else f"{_power(verdict.detectable_shift)}"
        if verdict.has_drifted is None:
            needed = verdict.needed_images
            advice = f"give about {needed} recent images" if needed else "more normal images in the reference are needed"
            return f"cannot tell: {counts} are too few, {seen}, {self.options.effect:g} is required; {advice}"
        return f"no drift shown: {counts}, {seen}"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        verdict = self.verdict
        return {
            "model": self.model,
            "run_id": self.run_id,
            "has_drifted": verdict.has_drifted,
            "sentence": self.sentence,
            "tests": [asdict(test) for test in verdict.tests],
            "statistics": [asdict(statistic) for statistic in verdict.statistics],
            "higher_scores": verdict.higher_scores._asdict(),
            "detectable_shift": verdict.detectable_shift,
            "needed_images": verdict.needed_images,
            "threshold": self.threshold,
            "alarms": {"reference": self.reference_alarms._asdict(), "recent": self.recent_alarms._asdict()},
            "images": {"reference": self.n_reference, "recent": self.n_recent, "available": self.n_available},
            "unreadable": list(self.unreadable),
            "different": [asdict(image) for image in self.different],
            "notes": list(self.notes),
            "options": asdict(self.options),
        }


def number(value: float) -> str:
    """With three significant digits, and no exponent in front of the decimal point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _power(shift: float) -> str:
    return f"a shift of the scores by {shift:.2g} standard deviations would be seen with probability 0.8"
