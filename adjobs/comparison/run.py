"""A comparison from its data to the tested choice: train every method, rank on validation, recommend one, test it once."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from pathlib import Path

from adjobs.comparison.config import ComparisonConfig, parse_comparison
from adjobs.comparison.observer import ComparisonObserver
from adjobs.comparison.plan import Candidate, ComparisonPlan, make_plan, with_absolute_paths
from adjobs.comparison.ranking import TrainedMethod, compare, rank, recommend
from adjobs.comparison.report import log_report
from adjobs.comparison.result import ComparisonResult, CurvePoint, MethodResult, MethodState, Ranking
from adjobs.comparison.trainings import Failure, Trainings
from adjobs.config.settings import Settings
from adjobs.errors import DataError, JobError, TrackingError
from adjobs.jobs import run
from adjobs.jobs.announce import announce_warnings, describe_labels
from adjobs.jobs.data import ensure_same_data
from adjobs.jobs.lifecycle import driver_tags, ensure_not_running, managed_run
from adjobs.jobs.places import describe_choice
from adjobs.jobs.run import Backend
from adjobs.metrics.intervals import Estimate
from adjobs.tracking import comparison as records
from adjobs.tracking.comparison import StoredComparison
from adjobs.tracking.layout import RunRef
from adjobs.tracking.runs import open_reader, open_writer
from adjobs.training.backends import ray as ray_backend
from adjobs.types import JobStatus

log = logging.getLogger(__name__)


def run_comparison(
    config: ComparisonConfig,
    settings: Settings,
    observer: ComparisonObserver,
    *,
    backend: Backend,
    name: str | None = None,
) -> ComparisonResult:
    """Compare methods and test the one that validation recommends.

    Args:
        config: what to compare.
        settings: where MLflow, storage and Ray are.
        observer: called while the comparison runs.
        backend: ``local`` trains in this process, ``ray`` on a cluster.
        name: of the comparison, to resume it by; None makes one.

    Raises:
        AdjobsError: the comparison cannot be done; most reasons are found before a run is opened.
    """
    started_at = time.perf_counter()
    config = with_absolute_paths(config)
    plan = make_plan(config, settings)
    name = name or f"compare-{Path(config.data.uri.rstrip('/')).name}-{time.strftime('%Y%m%d-%H%M%S')}"
    with ray_backend.connected(settings) if backend == "ray" else nullcontext():
        for candidate in plan.candidates:
            log.info("%s %s", candidate.name, describe_labels(candidate.job, candidate.prepared.data))
            if candidate.prepared.places is not None:
                log.info("places: %s, for %s", describe_choice(candidate.job, candidate.prepared.places), candidate.name)
        first = plan.candidates[0].prepared
        announce_warnings(first.job, first.data)
        tags = {**driver_tags(), "launcher": backend, "data_fingerprint": plan.data.fingerprint}
        tags |= {"splits_digest": plan.splits_digest}
        config = plan.config  # with the version of the data, if it has versions
        document = config.model_dump(mode="json")
        ref = records.open_comparison(settings.tracking_uri, name, config.track.experiment, document, config.to_yaml(), tags)
        return _run(name, ref, plan, None, backend, observer, started_at)


def resume_comparison(name: str, settings: Settings, observer: ComparisonObserver) -> ComparisonResult:
    """Resume a comparison: finished trainings stay, the others continue from their checkpoints.

    Args:
        name: of the comparison, or the id of its run.
        settings: where MLflow, storage and Ray are.
        observer: called while the comparison runs.

    Raises:
        TrackingError: no such comparison, it is finished, or its driver is alive.
        DataError: the data are not those that it was started with.
    """
    started_at = time.perf_counter()
    stored = records.find_comparison(settings.tracking_uri, name)
    name = stored.tags["comparison"]
    ensure_not_running(f"comparison '{name}'", stored.status, stored.tags)
    if stored.status == JobStatus.FINISHED:
        raise TrackingError(
            f"comparison '{name}': is FINISHED, its test split was evaluated; start a new one with 'adjobs compare'"
        )
    plan = make_plan(parse_comparison(stored.document, f"comparison '{name}'"), settings)
    origin, remedy = f"comparison '{name}' was started with", "restore the data, or start a new comparison"
    ensure_same_data(plan.config.data.uri, plan.data.fingerprint, stored.tags["data_fingerprint"], origin, remedy)
    if plan.splits_digest != stored.tags["splits_digest"]:
        raise DataError(f"data.split '{plan.config.data.split}': splits the data differently than {origin}; {remedy}")
    backend: Backend = "local" if stored.tags.get("launcher") == "local" else "ray"
    with ray_backend.connected(settings) if backend == "ray" else nullcontext():
        open_writer(stored.ref).reopen(driver_tags())
        return _run(name, stored.ref, plan, stored, backend, observer, started_at)


def _run(
    name: str,
    ref: RunRef,
    plan: ComparisonPlan,
    stored: StoredComparison | None,
    backend: Backend,
    observer: ComparisonObserver,
    started_at: float,
) -> ComparisonResult:
    """Do what is left of a comparison, and close its run whatever happens."""
    resume_command = f"adjobs compare --resume {name}"
    with managed_run(ref, resume_command):
        observer.on_open(ref)
        trainings = Trainings(plan, ref, stored, backend, resume_command, observer)
        ranking = _rank(name, plan, trainings, observer)
        chosen = ranking.chosen
        assert chosen.run_id is not None
        observer.on_training_start(f"test of {chosen.name}")
        test, model = _test(RunRef(ref.tracking_uri, chosen.run_id), plan.settings, observer, resume_command)
        result = ComparisonResult(
            name=name,
            run_id=ref.run_id,
            run_url=open_reader(ref).url(),
            tracking_uri=ref.tracking_uri,
            data=plan.config.data.uri,
            ranking=ranking,
            recommendation=tuple(recommend(ranking)),
            chosen=chosen.name,
            chosen_run=chosen.run_id,
            model=model,
            test=test,
            seconds=time.perf_counter() - started_at,
        )
        log_report(open_writer(ref), result)
        trainings.delete_checkpoints(keep=chosen.run_id)
    return result


def _rank(name: str, plan: ComparisonPlan, trainings: Trainings, observer: ComparisonObserver) -> Ranking:
    """Train every method, then the points of the learning curves that the budget allows."""
    trained: dict[str, TrainedMethod] = {}
    failed: list[MethodResult] = []
    for number, candidate in enumerate(plan.candidates, 1):
        outcome = trainings.train(candidate, f"method {number} of {len(plan.candidates)} ({candidate.name})")
        if isinstance(outcome, TrainedMethod):
            trained[candidate.name] = outcome
        else:
            failed.append(MethodResult(candidate.name, candidate.job.method, MethodState.FAILED, outcome.reason, outcome.run_id))
    if not trained:
        raise JobError(f"comparison '{name}': none of {len(failed)} methods could be trained, the first: {failed[0].reason}")
    ranked = rank(list(trained.values()), plan.metric)
    excluded = [MethodResult(item.name, item.method, MethodState.EXCLUDED, item.reason) for item in plan.excluded]
    split = plan.data.split
    val_labels = plan.labels_of(split.val)
    return Ranking(
        metric=plan.metric,
        methods=(*ranked, *failed, *excluded),
        curves=tuple(_curves(plan, trainings, [trained[method.name] for method in ranked])),
        train_anomalies=plan.labels_of(split.train).count("anomalous"),
        val_counts={label: val_labels.count(label) for label in ("normal", "anomalous")},
        seconds_each=plan.seconds_each,
    )


def _curves(plan: ComparisonPlan, trainings: Trainings, ranked: list[TrainedMethod]) -> list[CurvePoint]:
    """The learning curves, as far as the time reaches that is kept for them and that the methods have left."""
    if not plan.curve_seconds:
        return []
    left = plan.curve_seconds + sum(max(0.0, plan.seconds_each - item.outcome.train_seconds) for item in ranked)
    candidates = {candidate.name: candidate for candidate in plan.candidates}
    points = []
    for item in ranked:
        for candidate in plan.curve_of(candidates[item.name]):
            point, seconds = _curve_point(candidate, item, left, trainings, plan.metric)
            points.append(point)
            left -= seconds
    return points


def _curve_point(
    candidate: Candidate, full: TrainedMethod, left: float, trainings: Trainings, metric: str
) -> tuple[CurvePoint, float]:
    """A point of a learning curve, and the seconds that it took."""
    assert candidate.train_anomalies is not None
    count, needed = candidate.train_anomalies, full.outcome.train_seconds
    if left < needed:
        reason = f"it would take about {needed:.0f} s, and {max(0.0, left):.0f} s of the budget are left"
        return CurvePoint(candidate.name, count, reason=reason), 0.0
    outcome = trainings.train(candidate, f"learning curve of {candidate.name} (labelled anomalies: {count})")
    if isinstance(outcome, Failure):
        return CurvePoint(candidate.name, count, run_id=outcome.run_id, reason=outcome.reason), needed
    value, gain = outcome.outcome.values[metric], compare(full, outcome, metric)
    return CurvePoint(candidate.name, count, value, gain, outcome.run_id), outcome.outcome.train_seconds


def _test(
    ref: RunRef, settings: Settings, observer: ComparisonObserver, resume_command: str
) -> tuple[dict[str, Estimate], str | None]:
    """Evaluate the chosen method on the test split and log its model, once; returns its metrics there and its model."""
    reader = open_reader(ref)
    if "model" not in reader.info.tags or reader.info.status != JobStatus.FINISHED:
        run.resume(ref, settings, on_progress=observer.on_progress, parent_command=resume_command)
        reader = open_reader(ref)
    test = {
        name.removeprefix("test/"): estimate
        for name, estimate in reader.estimates().items()
        if name.startswith("test/") and estimate.value is not None
    }
    return test, reader.info.tags.get("model")
