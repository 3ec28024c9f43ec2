"""One pass of a retraining: take in, train, ask the gate, move the alias, tell. Killed at any point, the next call goes on."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from adjobs.config.settings import Settings
from adjobs.drift.run import DriftOptions, measure_drift
from adjobs.errors import (
    AdjobsError,
    ClusterError,
    DataError,
    JobError,
    QueueError,
    StorageError,
    SupersededError,
    TrackingError,
)
from adjobs.jobs.lifecycle import fenced
from adjobs.jobs.run import Backend
from adjobs.registry.journal import Journal
from adjobs.registry.models import ModelStore
from adjobs.retraining import lease, steps, webhook
from adjobs.retraining.champion import Champion, find_champion
from adjobs.retraining.config import DriftSection, RetrainConfig, parse_retraining
from adjobs.retraining.lease import HeldError, Lease
from adjobs.retraining.observer import RetrainObserver
from adjobs.retraining.page import render_page
from adjobs.retraining.passes import END, Pass, Passes, PassStart, digest_inputs
from adjobs.retraining.result import RetrainResult, RetrainState, TakenIn, result_of
from adjobs.retraining.triggers import Due, Situation, find_due, outside_hours
from adjobs.storage import open_store
from adjobs.storage.fence import Fence, write_current
from adjobs.tracking.source import user_name
from adjobs.versioning.adding import AddResult, add_to_dataset
from adjobs.versioning.dataset import VersionedDataset, VersionRecord

log = logging.getLogger(__name__)

TRANSIENT = (ClusterError, StorageError, TrackingError, QueueError, SupersededError)
"""Errors after which a pass goes on when it is called again; any other ends it."""

_WEBHOOK = "webhook"

Clock = Callable[[], datetime]


def now() -> datetime:
    """The time, with a zone."""
    return datetime.now(UTC)


def run_retraining(
    config: RetrainConfig,
    settings: Settings,
    observer: RetrainObserver,
    *,
    backend: Backend,
    force: bool = False,
    wait_s: float = 0.0,
    clock: Clock = now,
) -> RetrainResult:
    """Do a pass if one is due, or go on with one that was interrupted.

    Args:
        config: what to retrain, when and how.
        settings: where MLflow, storage and Ray are.
        observer: called with the progress.
        backend: ``local`` trains in this process, ``ray`` on a cluster.
        force: start a pass whether or not it is due.
        wait_s: seconds to wait for another process that works on it.
        clock: the time, with a zone.

    Raises:
        AdjobsError: it cannot be done. After errors of MLflow, storage and Ray the next call goes on; others end the pass.
    """
    _refuse_impossible(config, backend)
    retraining = _Retraining(config, settings, observer, backend, clock)
    try:
        with lease.hold(open_store(location(settings.artifacts, config.model)), wait_s=wait_s) as held:
            return retraining.run(held, force=force)
    except HeldError as error:
        return RetrainResult(config.model, RetrainState.IN_FLIGHT, str(error))


def preview_retraining(config: RetrainConfig, settings: Settings, observer: RetrainObserver, clock: Clock = now) -> RetrainResult:
    """What :func:`run_retraining` would do now; nothing is changed.

    Raises:
        AdjobsError: it could not be done.
    """
    passes = Passes(open_store(location(settings.artifacts, config.model)))
    return _Retraining(config, settings, observer, "local", clock).preview(passes)


def abandon(model: str, settings: Settings, reason: str) -> RetrainResult:
    """End a pass that was interrupted; what it has trained stays, without an alias.

    Raises:
        DataError: there is none.
        HeldError: another process works on it.
    """
    store = open_store(location(settings.artifacts, model))
    with lease.hold(store):
        last = Passes(store).last()
        if last is None or last.outcome(END) is not None:
            raise DataError(f"model '{model}': no pass was interrupted; there is nothing to abandon")
        end = last.step(END, lambda: {"state": RetrainState.ABANDONED, "sentence": f"abandoned: {reason or 'no reason given'}"})
        return result_of(model, last.start.number, last.start.reasons, end)


def location(artifacts: str, model: str) -> str:
    """Where the passes of a model are recorded.

    Args:
        artifacts: folder or ``s3://bucket/prefix`` of artifacts.
        model: name of the registered model.
    """
    digest = hashlib.sha256(model.encode()).hexdigest()[:16]
    return f"{artifacts}/retraining/{re.sub(r'[^A-Za-z0-9_-]+', '_', model)[:60]}-{digest}"


def _refuse_impossible(config: RetrainConfig, backend: Backend) -> None:
    """Refuse what this process could not do, before a pass starts that it would end.

    Raises:
        JobError: a search without Ray, or a key of the webhook that cannot be read.
    """
    if config.search is not None and backend == "local":
        raise JobError("search: trials run on Ray; remove --local, or the section search")
    if config.webhook is not None and config.webhook.secret_file is not None:
        webhook.read_key(config.webhook.secret_file)


class _Retraining:
    """A retraining with all that it needs."""

    def __init__(
        self,
        config: RetrainConfig,
        settings: Settings,
        observer: RetrainObserver,
        backend: Backend,
        clock: Clock,
    ) -> None:
        self._config, self._settings = config, settings
        self._journal = Journal(ModelStore(settings.tracking_uri), settings.artifacts, user_name(os.environ))
        self._observer, self._backend, self._clock = observer, backend, clock

    def preview(self, passes: Passes) -> RetrainResult:
        """What a call would do."""
        last = passes.last()
        if last is not None and last.outcome(END) is None:
            text = f"pass {last.start.number} was interrupted, and would go on"
            return RetrainResult(self._config.model, RetrainState.DUE, text, last.start.number, last.start.reasons)
        added = self._add(dry_run=True)
        count = 0 if added is None else added.added + added.updated
        champion = find_champion(self._journal, self._config.model, self._config.dataset)
        due = self._find_due(
            _unseen(self._dataset(), champion) + count, champion, None if count else self._same_pass(last, champion)
        )
        return RetrainResult(
            self._config.model,
            RetrainState.DUE if due.is_due else RetrainState.NOT_DUE,
            f"{due.sentence} (--dry-run: nothing was changed)",
            reasons=due.reasons,
            taken_in=added,
            champion=None if champion is None else champion.version.version,
        )

    def run(self, held: Lease, *, force: bool) -> RetrainResult:
        """Go on with a pass that was interrupted, or start one if it is due."""
        passes = Passes(held.store)
        last = passes.last()
        if last is not None and last.outcome(END) is None:
            self._observer.on_step(f"going on with pass {last.start.number} of {last.start.started_at}")
            return self._finish(last, held)
        if last is not None:
            self._notify(last)
        if not force and not self._config.when.allow(self._clock()):
            return RetrainResult(self._config.model, RetrainState.NOT_DUE, f"not due: {outside_hours(self._config.when)}")
        added = self._add(dry_run=False)
        champion = find_champion(self._journal, self._config.model, self._config.dataset)
        new_labels = _unseen(self._dataset(), champion)
        due = self._find_due(new_labels, champion, self._same_pass(last, champion))
        number = None if champion is None else champion.version.version
        if not due.is_due and not force:
            return RetrainResult(self._config.model, RetrainState.NOT_DUE, due.sentence, taken_in=added, champion=number)
        started = passes.start(self._start_of(last, due, number, new_labels))
        self._observer.on_step(f"pass {started.start.number} starts: {'; '.join(started.start.reasons)}")
        return self._finish(started, held, added)

    def _start_of(self, last: Pass | None, due: Due, champion: int | None, new_labels: int) -> PassStart:
        latest = self._latest()
        return PassStart(
            number=1 if last is None else last.start.number + 1,
            started_at=self._clock().isoformat(timespec="seconds"),
            by=self._journal.user,
            reasons=due.reasons or ("started by a user with --force",),
            config=self._config.model_dump(mode="json"),
            dataset_version=latest.number,
            fingerprint=latest.fingerprint,
            champion=champion,
            new_labels=new_labels,
        )

    def _add(self, *, dry_run: bool) -> TakenIn | None:
        """Take in what lies in the inbox."""
        config = self._config
        if config.inbox is None:
            return None
        self._observer.on_step(f"taking in {config.inbox}")
        result: AddResult = add_to_dataset(
            config.dataset,
            config.inbox,
            settings=self._settings,
            author=self._journal.user,
            message=f"retraining of {config.model}",
            format=config.inbox_format,
            dry_run=dry_run,
        )
        aside = tuple((item.name, item.message) for item in result.set_aside)
        added = TakenIn(result.added, result.updated, result.duplicates, aside)
        self._observer.on_step(added.sentence)
        return added

    def _dataset(self) -> VersionedDataset:
        return VersionedDataset.open(self._config.dataset)

    def _latest(self) -> VersionRecord:
        latest = self._dataset().latest()
        if latest is None:
            uri = self._config.dataset
            raise DataError(f"data set '{uri}': is empty; add labelled images with 'adjobs dataset add {uri} FOLDER'")
        return latest

    def _same_pass(self, last: Pass | None, champion: Champion | None) -> int | None:
        """The number of the last pass, if it was started with what a new one would be."""
        version = None if champion is None else champion.version.version
        inputs = digest_inputs(self._config.model_dump(mode="json"), self._latest().fingerprint, version)
        return last.start.number if last is not None and last.start.inputs == inputs else None

    def _find_due(self, new_labels: int, champion: Champion | None, same_pass: int | None) -> Due:
        """Whether a pass is due; recent images are compared only if nothing else is reason enough."""
        since = None if champion is None else champion.since
        situation = Situation(self._clock(), champion is not None, since, new_labels, None, same_pass)
        due = find_due(self._config.when, situation)
        drift = self._config.when.drift
        if due.reasons or drift is None or champion is None or same_pass is not None:
            return due
        return find_due(self._config.when, Situation(self._clock(), True, since, new_labels, self._drift(drift, champion)))

    def _drift(self, section: DriftSection, champion: Champion) -> str | None:
        self._observer.on_step(f"comparing {section.images} with the images of the champion")
        options = DriftOptions(alpha=section.alpha, max_anomalous_share=section.max_anomalous_share)
        result = measure_drift(champion.version.uri, section.images, self._settings, options)
        self._observer.on_step(result.sentence)
        return result.sentence if result.has_drifted else None

    def _finish(self, current: Pass, held: Lease, added: TakenIn | None = None) -> RetrainResult:
        """Do what is left of a pass. Its configuration is that of its start."""
        start = current.start
        config = parse_retraining(start.config, f"pass {start.number}")
        _refuse_impossible(config, self._backend)
        try:
            context = steps.PassContext(start, config, self._settings, self._journal, self._backend, self._observer)
            write_current(held.store, held.number)
            with fenced(Fence(held.store.uri(), held.number)):
                end = self._steps(current, context, held)
        except TRANSIENT:
            raise
        except AdjobsError as error:
            sentence = f"pass {start.number} failed: {error}"
            failure = {"state": RetrainState.FAILED, "sentence": sentence, "champion": start.champion}
            current.step(END, lambda: failure)
            self._notify(current)
            raise
        notified = self._notify(current)
        result = result_of(start.config["model"], start.number, start.reasons, end)
        return RetrainResult(**{**vars(result), "taken_in": added, "notified": notified})

    def _steps(self, current: Pass, context: steps.PassContext, held: Lease) -> dict[str, Any]:
        on_step, start = self._observer.on_step, current.start

        def step(name: str, text: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            known = current.outcome(name)
            if known is not None:
                return known
            on_step(f"pass {start.number}: {text}")
            held.ensure_current()
            return current.step(name, work)

        trained = step("train", f"training on version {start.dataset_version}", lambda: steps.train(context))
        run_id = trained["run_id"]
        version = step("register", "registering the model", lambda: steps.register(context, run_id, trained["model"]))["version"]
        gate = step("gate", "comparing with the champion", lambda: steps.ask_gate(context, run_id, version))
        alias = step("alias", "moving the alias", lambda: steps.move_alias(context, version, gate))
        facts = {"run_id": run_id, "version": version, "champion": start.champion, "dataset_version": start.dataset_version}
        facts |= {"decision": gate["decision"], **alias}
        page = step(
            "page", "writing the summary", lambda: steps.log_page(context, run_id, lambda: render_page(start, facts, gate))
        )
        return step(END, str(alias["state"]), lambda: {**facts, **page})

    def _notify(self, last: Pass) -> bool | None:
        """Send the summary of a pass that has ended, unless it was accepted before; None: there is nothing to send."""
        section, end = self._config.webhook, last.outcome(END)
        if section is None or end is None or last.outcome(_WEBHOOK) is not None:
            return None
        key = None if section.secret_file is None else webhook.read_key(section.secret_file)
        summary = {"pass": last.start.number, "model": last.start.config["model"], "reasons": list(last.start.reasons), **end}
        if not webhook.send(section.url, key, summary, last.start.request_id):
            log.warning(
                "webhook %s: did not accept the summary of pass %d; the next call sends it again", section.url, last.start.number
            )
            return False
        last.step(_WEBHOOK, lambda: {"accepted_at": self._clock().isoformat(timespec="seconds")})
        return True


def _unseen(dataset: VersionedDataset, champion: Champion | None) -> int:
    """Number of labelled images that the champion has not been trained, calibrated or tested on."""
    latest = dataset.latest()
    if latest is None:
        return 0
    seen = frozenset() if champion is None else champion.seen
    return sum(entry.label != "unlabelled" and entry.id not in seen for entry in dataset.samples(latest.number))
