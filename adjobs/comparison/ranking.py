"""Ranks methods by validation, says which of them cannot be distinguished from the best, and recommends one in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from adjobs.comparison.candidate import RESAMPLES, SEED, CandidateOutcome
from adjobs.comparison.result import CurvePoint, MethodResult, MethodState, Ranking
from adjobs.evaluation.compare import Difference, compare_metric, compare_resampled
from adjobs.reporting.figures.style import metric_name
from adjobs.types import ImageScores

ALLOWED_ERROR = 0.05
"""Probability that one or more of the methods seem worse than the best without being so."""

SMALL_GAIN = 0.02
"""A doubling of the labelled anomalies that brings at most this brings little."""


class TrainedMethod(NamedTuple):
    """A trained method with its scores on the validation split."""

    name: str
    method: str
    run_id: str
    outcome: CandidateOutcome
    scores: ImageScores


def rank(trained: Sequence[TrainedMethod], metric: str) -> list[MethodResult]:
    """The methods, the best first; each is compared with the best on the same images.

    The intervals hold together: with m methods each has the confidence 1 - 0.05 / (m - 1).

    Args:
        trained: at least one.
        metric: that ranks, higher is better; of equals the faster one is first.
    """
    order = sorted(trained, key=lambda item: (-item.outcome.values[metric], item.outcome.ms_per_image))
    best = order[0]
    confidence = 1 - ALLOWED_ERROR / max(1, len(order) - 1)
    results = [_result(best, None)]
    return results + [_result(item, compare(item, best, metric, confidence)) for item in order[1:]]


def compare(a: TrainedMethod, b: TrainedMethod, metric: str, confidence: float = 1 - ALLOWED_ERROR) -> Difference:
    """A metric of a minus that of b, by a bootstrap over the images of the validation split, which are the same for both."""
    if a.scores.ids != b.scores.ids:
        raise ValueError(f"{a.name} and {b.name} were evaluated on other images")
    if a.outcome.resampled and b.outcome.resampled:
        values = a.outcome.values[metric], b.outcome.values[metric]
        return compare_resampled(*values, a.outcome.resampled, b.outcome.resampled, confidence=confidence)
    return compare_metric(
        metric, a.scores.labels, a.scores.score, b.scores.score, confidence=confidence, resamples=RESAMPLES, seed=SEED
    )


def _result(item: TrainedMethod, difference: Difference | None) -> MethodResult:
    is_worse = difference is not None and difference.high is not None and difference.high < 0
    return MethodResult(
        item.name,
        item.method,
        MethodState.COMPLETE,
        run_id=item.run_id,
        outcome=item.outcome,
        difference=difference,
        is_tied=not is_worse,
    )


def recommend(ranking: Ranking) -> list[str]:
    """Sentences: which method to take and why, what a longer training might change, and what more labels would bring."""
    return [_verdict(ranking), *_choice(ranking), *_cut(ranking), *_curves(ranking)]


def _verdict(ranking: Ranking) -> str:
    metric, best, complete = metric_name(ranking.metric), ranking.complete[0], ranking.complete
    value = best.complete.values[ranking.metric]
    if len(complete) == 1:
        return f"Only {best.name} could be compared: {metric} {value:.3f} on validation."
    tied = [method.name for method in ranking.tied if method is not best]
    counts = f"{ranking.val_counts.get('normal', 0)} normal and {ranking.val_counts.get('anomalous', 0)} anomalous images"
    if len(tied) + 1 == len(complete):
        return (
            f"These data cannot distinguish the {len(complete)} methods: on the {counts} of the validation split, no {metric} "
            f"differs from that of {best.name}, {value:.3f}, by more than chance would explain."
        )
    if tied:
        return (
            f"{best.name} has the highest {metric} on validation, {value:.3f}; these data ({counts}) cannot distinguish "
            f"{_listed(tied)} from it, and the others are worse."
        )
    second = complete[1]
    assert second.difference is not None
    lead = -(second.difference.value or 0.0)
    return f"{best.name} is the best on validation: {metric} {value:.3f}, {lead:.3f} more than {second.name}, the second."


def _choice(ranking: Ranking) -> list[str]:
    """Which of those that are equally good."""
    chosen, tied = ranking.chosen, ranking.tied
    if len(tied) == 1:
        return [] if len(ranking.complete) == 1 else [f"Take {chosen.name}."]
    slower = ", ".join(f"{method.name} {method.complete.ms_per_image:.1f}" for method in tied if method is not chosen)
    return [
        f"Take {chosen.name}, the fastest of these: {chosen.complete.ms_per_image:.1f} ms per image ({slower}).",
        "More labelled images in the validation split would distinguish them better.",
    ]


def _cut(ranking: Ranking) -> list[str]:
    cut = [
        f"{method.name} ({', '.join(method.complete.cut_stages)})" for method in ranking.complete if method.complete.cut_stages
    ]
    if not cut:
        return []
    reached = f"{_listed(cut)} reached the time limit of {ranking.seconds_each:.0f} s before the end of the training"
    return [f"{reached}; a larger budget may change the order."]


def _curves(ranking: Ranking) -> list[str]:
    """What more labelled anomalies would bring, from what the last doubling of their number brought."""
    sentences = []
    for name in dict.fromkeys(point.name for point in ranking.curves):
        points = [point for point in ranking.curves if point.name == name]
        trained = [point for point in points if point.gain is not None]
        missing = [str(point.train_anomalies) for point in points if point.gain is None]
        if trained:
            sentences.append(_gain(trained[0], ranking))
        if missing:
            sentences.append(f"{name} was not trained with {_listed(missing)} labelled anomalies: {points[-1].reason}.")
    return sentences


def _gain(point: CurvePoint, ranking: Ranking) -> str:
    gain, metric = point.gain, metric_name(ranking.metric)
    assert gain is not None
    change = f"From {point.train_anomalies} to {ranking.train_anomalies} labelled anomalies, the {metric} of {point.name}"
    if gain.value is None or gain.low is None or gain.high is None:
        return f"{change} changed by {gain.value or 0:+.3f}; these data cannot say whether more labels would help."
    interval = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    if gain.low > 0:
        return f"{change} rose by {interval}: more labels are likely to help."
    if gain.high < 0:
        return f"{change} fell by {interval}: more labels of this kind do not help."
    verdict = "a few more labels will hardly help" if gain.high <= SMALL_GAIN else "it is open whether more labels would help"
    return f"{change} changed by {interval}, no more than chance would explain: {verdict}."


def _listed(items: Sequence[str]) -> str:
    """``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
