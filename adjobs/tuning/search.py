"""A search from its job and space to the trained choice: run the trials, choose on validation, train in full, test once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from adjobs.config.job import JobConfig
from adjobs.config.settings import Settings
from adjobs.errors import DataError, JobError, TrackingError
from adjobs.jobs import run
from adjobs.jobs.prepare import Data
from adjobs.storage import open_store
from adjobs.tracking import run as tracking
from adjobs.tracking import search as records
from adjobs.tracking.search import SearchRecorder, StoredSearch
from adjobs.training.backends import ray as ray_backend
from adjobs.training.progress import ProgressUpdate
from adjobs.tuning import outcome, tune_bridge
from adjobs.tuning.objective import Objective
from adjobs.tuning.plan import DEFAULT_TRIALS, Options, look, resolved, section
from adjobs.tuning.space import Point, Space, parse_space
from adjobs.tuning.study import Rules, Study
from adjobs.tuning.trial import Order
from adjobs.tuning.trial_manager import Limits, Queue, Trial


class Watch:
    """Whoever looks on; this one does not."""

    def begin(self, name: str, queue: Queue) -> None:
        """The search starts."""

    def changed(self) -> None:
        """A trial started, reported or ended."""

    def end(self) -> None:
        """No more trials."""

    def tick(self, tick: ProgressUpdate) -> None:
        """The training of what was chosen goes on."""


@dataclass(frozen=True)
class _Search:
    """A search that was opened."""

    name: str
    run_id: str
    job: JobConfig
    space: Space
    goals: tuple[Objective, ...]
    options: Options
    data: Mapping[str, Data]
    settings: Settings
    _prepared: dict[str, run.Prepared] = field(default_factory=dict)

    def prepared(self, point: Point) -> run.Prepared:
        """A point's job and data, looked at once: a model to begin with is fetched for that."""
        key = json.dumps(point)
        if key not in self._prepared:
            job = self.space.job_at(point, self.job)
            self._prepared[key] = run.prepare(job, self.settings, self.data[section(job)])
        return self._prepared[key]


def start(
    job: JobConfig,
    space: Space,
    options: Options,
    settings: Settings,
    watch: Watch,
    *,
    name: str | None = None,
    hours: float | None = None,
) -> dict[str, Any]:
    """Search from the beginning; returns the summary.

    Args:
        job: the resolved job, whose values are the first trial.
        space: what varies.
        options: how.
        settings: where MLflow, storage and Ray are.
        watch: told of all that happens.
        name: of the search, to go on with; None makes one.
        hours: in which trials and final training are to end; None: no limit.

    Raises:
        AdjobsError: anything that stands in the way; most of it is found before a run is opened.
    """
    begin = time.perf_counter()
    job = run.with_absolute_paths(job)
    options, goals = resolved(options, job, space)
    space.check(job)
    data = look(space, job, goals, settings)
    name = name or f"{tracking.name_of(job)}-{time.strftime('%Y%m%d-%H%M%S')}"
    with ray_backend.connected(settings):
        where = tune_bridge.room(job.train)
        told = {**asdict(options), "metrics": [str(goal) for goal in goals]}
        of_data = {"data_fingerprint": next(iter(data.values())).fingerprint, "divisions": _divisions(data)}
        document = {"method": space.method, "axes": {axis.key: _told(axis) for axis in space.axes}}
        run_id = records.open_search(settings.tracking_uri, name, job, document, told, {**run.driver_tags(), **of_data})
        found = _Search(name, run_id, job, space, goals, options, data, settings)
        summary = _go_on(found, None, where, watch, hours)
    return summary | {"seconds": time.perf_counter() - begin}


def resume(
    name: str,
    settings: Settings,
    watch: Watch,
    *,
    trials: int | None = None,
    concurrent: int | None = None,
    hours: float | None = None,
) -> dict[str, Any]:
    """Go on with a search: finished trials stay, running ones go on from their checkpoints.

    Args:
        name: of the search, or the id of its run.
        settings: where MLflow, storage and Ray are.
        watch: told of all that happens.
        trials: in all, in place of what the search was started with.
        concurrent: at once, likewise.
        hours: from now on.

    Raises:
        TrackingError: no such search, it is finished, or its driver is alive.
        DataError: the data are not those that it was started with.
    """
    begin = time.perf_counter()
    stored = records.find_search(settings.tracking_uri, name)
    name = stored.tags["search"]
    run.ensure_not_running(f"search '{name}'", stored.status, stored.tags)
    if stored.status == "FINISHED":
        raise TrackingError(f"search '{name}': is FINISHED, its test part was looked at; start a new one with 'adjobs tune JOB'")
    given = Options(**{**stored.options, "metrics": tuple(stored.options["metrics"])})
    given = replace(given, trials=trials or given.trials, concurrent=concurrent or given.concurrent)
    job, space = stored.job, parse_space(stored.space, f"space of search '{name}'")
    options, goals = resolved(given, job, space)
    data = look(space, job, goals, settings)
    seen = next(iter(data.values())).fingerprint
    if seen != stored.tags["data_fingerprint"]:
        was = stored.tags["data_fingerprint"]
        raise DataError(
            f"data '{job.data.uri}': fingerprint {seen[:16]}, search '{name}' was started with {was[:16]}; bring them back"
        )
    if _divisions(data) != stored.tags["divisions"]:
        raise DataError(
            f"data.split '{job.data.split}': divides the data otherwise than when search '{name}' was started; bring it back"
        )
    if stored.final is not None and (trials is not None or hours is not None):
        raise TrackingError(
            f"search '{name}': its trials are over, its choice is being trained; go on without --trials and --hours"
        )
    with ray_backend.connected(settings):
        where = tune_bridge.room(job.train)
        tracking.reopen(settings.tracking_uri, stored.run_id, run.driver_tags())
        found = _Search(name, stored.run_id, job, space, goals, options, data, settings)
        summary = _go_on(found, stored, where, watch, hours)
    return summary | {"seconds": time.perf_counter() - begin}


def _divisions(data: Mapping[str, Data]) -> str:
    """What tells these divisions of the data from others."""
    parts = [one.split.to_dict() for one in data.values()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _told(axis: Any) -> dict[str, Any]:
    """An axis as a space file tells it."""
    return {axis.kind: list(axis.values), **({"when": {key: list(v) for key, v in axis.when.items()}} if axis.when else {})}


def _go_on(
    search: _Search, stored: StoredSearch | None, where: tune_bridge.Room, watch: Watch, hours: float | None
) -> dict[str, Any]:
    """Run what is left of a search, and close its run whatever happens."""
    with run.managed_run(search.settings.tracking_uri, search.run_id, f"adjobs tune --resume {search.name}"):
        return _find_and_train(search, stored, where, watch, hours)


def _find_and_train(
    search: _Search, stored: StoredSearch | None, where: tune_bridge.Room, watch: Watch, hours: float | None
) -> dict[str, Any]:
    """Trials, choice, training, test."""
    queue = _queue(search, stored, where, hours)
    if stored is None or stored.final is None:
        _run_trials(search, queue, where, watch)
    best = queue.best()
    if not best:
        reasons = "; ".join(sorted({trial.reason for trial in queue.trials.values() if trial.reason}))
        raise JobError(f"search '{search.name}': none of {len(queue.trials)} trials finished ({reasons[:500]})")
    uri = search.settings.tracking_uri
    chosen = search.space.job_at(best[0].point, search.job)
    document = outcome.document(queue)
    recorder = SearchRecorder(uri, search.run_id)
    recorder.outcome(chosen, document, {"best_trial": str(best[0].number), "best_run": best[0].run_id})
    recorder.figures(outcome.pictures(queue, document))
    outcome.show_best(uri, best)
    final = _train_choice(search, stored, best[0].point, watch)
    measured = outcome.optimism(search.goals, best[0], final)
    recorder.progress({f"chosen/{name}": value for name, value in measured.items() if value is not None}, len(queue.trials))
    setup = {"search": search.name, "run_id": search.run_id, "run_url": tracking.url(uri, search.run_id), "tracking_uri": uri}
    what = {"method": search.job.method, "data": search.job.data.uri}
    return {**setup, **what, **document, "chosen": measured, "final_run": final.run_id, "model": final.tags.get("model")}


def _queue(search: _Search, stored: StoredSearch | None, where: tune_bridge.Room, hours: float | None) -> Queue:
    """The trials, those of an earlier part of the search among them."""
    options, uri = search.options, search.settings.tracking_uri
    recorder = SearchRecorder(uri, search.run_id)
    rules = Rules(options.sampler, options.stopper or "none", options.grace, options.seed)
    study = Study(search.space, search.job, search.goals, rules, search.prepared)

    def opened(number: int, point: Point) -> Trial:
        tags = {"launcher": "search", "trial": str(number), "point": json.dumps(point)}
        under = records.under(search.run_id, number)
        return Trial(number, point, run.open_run(search.prepared(point), search.settings, tags, under).run_id)

    def waiting(trial: Trial) -> None:
        recorder.note(trial.run_id, {"deaths": str(trial.deaths), "alone": str(trial.alone), "spent": f"{trial.seconds:.1f}"})

    def closed(trial: Trial) -> None:
        recorder.settle(trial.run_id, str(trial.outcome), {"reason": trial.reason, "seconds": f"{trial.seconds:.1f}"})
        open_store(run.storage_of(search.settings, "")).delete(trial.run_id)  # nobody goes on from there
        recorder.close(trial.run_id, "FAILED" if trial.outcome in ("failed", "out of memory") else "FINISHED")
        best = queue.best()
        if best:
            metric = search.goals[0].metric
            recorder.progress(
                {f"best/{metric}": best[0].values[metric]}, sum(t.outcome is not None for t in queue.trials.values())
            )

    limits = Limits(
        options.trials or DEFAULT_TRIALS,
        min(options.concurrent or where.most, where.most),
        None if hours is None else 3600 * hours,
        search.job.train.max_retries,
    )
    queue = Queue(study, limits, opened, waiting, closed, crowded=where.crowded)
    for nested in () if stored is None else stored.trials:
        trial = _known(search, nested)
        queue.known(trial)
        if trial.outcome is not None and nested.status not in ("FINISHED", "FAILED"):
            closed(trial)  # the driver ended between the trial's last word and the end of this
    return queue


def _known(search: _Search, nested: records.ChildRun) -> Trial:
    """A trial as MLflow holds it."""
    outcome = nested.tags.get("outcome")
    metric = search.goals[0].metric
    return Trial(
        number=int(nested.tags["trial"]),
        point=json.loads(nested.tags["point"]),
        run_id=nested.run_id,
        history=records.history(search.settings.tracking_uri, nested.run_id, metric) if search.goals[0].every_round else {},
        outcome=outcome,  # type: ignore[arg-type]
        reason=nested.tags.get("reason", ""),
        values=nested.values if outcome == "finished" else {},
        seconds=float(nested.tags.get("seconds") or nested.metrics.get("costs/train_seconds") or nested.tags.get("spent") or 0),
        deaths=int(nested.tags.get("deaths", 0)),
        alone=nested.tags.get("alone") == "True",
    )


def _run_trials(search: _Search, queue: Queue, where: tune_bridge.Room, watch: Watch) -> None:
    settings, earlier = search.settings, set(queue.trials)

    def order_of(trial: Trial) -> Order:
        prepared = search.prepared(trial.point)
        if trial.number in earlier:
            task = run.reopen_run(prepared, settings, trial.run_id)
        else:
            task = run.task_of(prepared, settings, trial.run_id)
        task = replace(task, split=replace(task.split, test=()), reuse_stages=True)
        return Order(trial.number, task, run.storage_of(settings, trial.run_id), where.wanted, trial.seconds)

    if queue.over:
        return
    watch.begin(search.name, queue)
    try:
        open_store(f"{settings.artifacts}/searches").delete(search.run_id)  # of a part that was killed
        storage = f"{settings.artifacts}/searches/{search.run_id}/{uuid.uuid4().hex[:8]}"
        tune_bridge.execute(queue, order_of, where, storage, watch.changed)
    except BaseException:
        recorder = SearchRecorder(settings.tracking_uri, search.run_id)
        for trial in (one for one in queue.trials.values() if one.outcome is None):
            with contextlib.suppress(TrackingError):
                recorder.note(trial.run_id, {"spent": f"{queue.seconds(trial):.1f}"})
                recorder.close(trial.run_id, "KILLED")
        raise
    finally:
        watch.end()


def _train_choice(search: _Search, stored: StoredSearch | None, point: Point, watch: Watch) -> records.ChildRun:
    """Train the choice in full and test it, once; returns its run."""
    settings = search.settings
    if stored is None or stored.final is None:
        chosen = search.space.job_at(point, search.job)
        run.train(chosen, settings, local=False, on_progress=watch.tick, under=records.under(search.run_id, None))
    elif stored.final.status != "FINISHED":
        run.reopen_run(search.prepared(point), settings, stored.final.run_id)  # its driver may have ended while it was opened
        run.resume(stored.final.run_id, settings, on_progress=watch.tick, by_search=True)
    final = records.find_search(settings.tracking_uri, search.run_id).final
    assert final is not None
    return final
