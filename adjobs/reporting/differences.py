"""Does the difference between runs mean anything? Each run against the best, paired on the images that all were tested on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from adjobs.errors import DataError
from adjobs.evaluation.compare import Difference, compare_auroc
from adjobs.evaluation.score_table import PairedScores, ScoreTable, pair_scores
from adjobs.metrics import CONFIDENCE, ranking
from adjobs.reporting.report import RunReport


class RunDifference(NamedTuple):
    """The image AUROC of the best run minus that of another, on the same test images.

    Attributes:
        run: the other run.
        difference: 0 or more; its interval holds together with those of all pairs of runs.
        sentence: what it means.
    """

    run: RunReport
    difference: Difference
    sentence: str


class Differences(NamedTuple):
    """All runs against the best of them.

    Attributes:
        best: with the highest AUROC on the test images.
        others: the best of them first.
        counts: what was compared, such as ``40 normal and 32 anomalous images``.
        note: how the intervals are to be read.
    """

    best: RunReport
    others: tuple[RunDifference, ...]
    counts: str
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        others = [
            {"run": each.run.run_id, "difference": each.difference._asdict(), "sentence": each.sentence} for each in self.others
        ]
        return {"best": self.best.run_id, "metric": "test/image_auroc", "others": others}


def differences(reports: Sequence[RunReport]) -> Differences | str:
    """Compare runs that were tested on the same images; or why that cannot be done.

    Args:
        reports: of runs, with their test scores.
    """
    scored = [report for report in reports if report.test_scores is not None]
    if len(scored) < 2:
        return "Fewer than two of the runs stored the scores of their test images, so nothing says what the difference means."
    tables = [ScoreTable.from_image_scores(report.test_scores, 0.0) for report in scored if report.test_scores is not None]
    try:
        pairs = [pair_scores(tables[0], table, "test images") for table in tables]
    except DataError:
        return "The runs were tested on different images or labels, so their differences are not those of the models alone."
    areas = [ranking.auroc(pair.truth, pair.challenger) for pair in pairs]
    if None in areas:
        return "The test images are all normal or all anomalous, so no AUROC is defined."
    order = sorted(range(len(scored)), key=lambda index: -(areas[index] or 0.0))
    count = len(scored) * (len(scored) - 1) // 2
    others = tuple(_compare(scored, pairs, order[0], index, 1 - (1 - CONFIDENCE) / count) for index in order[1:])
    return Differences(scored[order[0]], others, _counts(pairs[0]), _note(count))


def _compare(
    reports: Sequence[RunReport], pairs: Sequence[PairedScores], best: int, other: int, confidence: float
) -> RunDifference:
    scores = pairs[best].challenger, pairs[other].challenger
    difference = compare_auroc(pairs[best].truth, *scores, confidence=confidence)
    return RunDifference(reports[other], difference, _sentence(reports[best].name, reports[other].name, difference))


def _sentence(best: str, other: str, difference: Difference) -> str:
    low, high = difference.low, difference.high
    if difference.value is None or low is None or high is None:
        return f"whether {best} is better than {other} cannot be said: {difference.reason}"
    if low > 0:
        return f"{best} is better than {other}: chance alone does not explain the difference"
    if low == high == 0:
        return f"{best} and {other} rank these images alike"
    return f"these images do not show that {best} is better than {other}: the difference may be chance"


def _counts(pairs: PairedScores) -> str:
    anomalous = int(pairs.truth.sum())
    return f"{len(pairs.truth) - anomalous} normal and {anomalous} anomalous {pairs.unit}"


def _note(count: int) -> str:
    many = "" if count == 1 else f"; wide enough that those of all {count} pairs hold together"
    return (
        f"95 % intervals of the paired difference (DeLong){many}. Both models score the same images, so it is known better than "
        "two separate intervals suggest. Another training of the same job would differ, too: that is not part of the interval."
    )
