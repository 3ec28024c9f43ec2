"""The steps of a pass. Each can be repeated: it finds what it did before it was killed, by names that the pass decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from adjobs.config.duration import to_seconds
from adjobs.config.job import JobConfig
from adjobs.config.settings import Settings
from adjobs.data.open import open_dataset
from adjobs.errors import RegistryError, TrackingError
from adjobs.inference.torch_detector import TorchDetector
from adjobs.jobs import run
from adjobs.jobs.describe import describe_version_of
from adjobs.jobs.run import Backend
from adjobs.registry.changes import promote
from adjobs.registry.journal import Journal
from adjobs.registry.models import CHALLENGER, CHAMPION
from adjobs.registry.record import GateSummary
from adjobs.registry.verdicts import record_verdict
from adjobs.retraining.champion import Champion, read_version
from adjobs.retraining.config import RetrainConfig
from adjobs.retraining.evidence import Evidence, choose_test_images, compare_detectors
from adjobs.retraining.observer import RetrainObserver
from adjobs.retraining.passes import PassStart
from adjobs.retraining.result import RetrainState
from adjobs.tracking import search as searches
from adjobs.tracking.layout import REQUEST_TAG, RunRef
from adjobs.tracking.logged_model import download, pin_model_uri
from adjobs.tracking.runs import open_reader, open_writer
from adjobs.tuning import search
from adjobs.tuning.plan import SearchOptions
from adjobs.tuning.space import parse_space
from adjobs.types import JobStatus

MAX_DECISIONS = 2000
"""Test images whose decisions a pass keeps: those that the two models decide differently, and the new ones, come first."""


class PassContext(NamedTuple):
    """What the steps of a pass need.

    Attributes:
        start: of the pass.
        config: of the pass, as it was when it started.
        settings: where MLflow, storage and Ray are.
        journal: of the registry.
        backend: where it trains.
        observer: called with the progress.
    """

    start: PassStart
    config: RetrainConfig
    settings: Settings
    journal: Journal
    backend: Backend
    observer: RetrainObserver


def train(context: PassContext) -> dict[str, Any]:
    """Train, or search and train, on the version of the data set; gives ``run_id`` and ``model``, the logged model."""
    settings, start = context.settings, context.start
    job = context.config.training_job(start.dataset_version, start.champion)
    if context.config.search is not None:
        run_id = _search(context, job)
    else:
        run_id = run.train_once(
            job,
            settings,
            run.TrainRequest(start.request_id, "adjobs retrain"),
            backend=context.backend,
            on_progress=context.observer.on_progress,
        ).run_id
    return {"run_id": run_id, "model": pin_model_uri(settings.tracking_uri, run_id)}


def _search(context: PassContext, job: JobConfig) -> str:
    """Search, or go on with the search that the pass began; returns the run of its final training."""
    settings, name, section = context.settings, context.start.request_id, context.config.search
    assert section is not None
    try:
        stored = searches.find_search(settings.tracking_uri, name)
    except TrackingError:  # none yet, or MLflow is down, which ends the new search as well
        options = SearchOptions(metrics=section.metrics, trials=section.trials)
        budget = None if section.time_budget is None else to_seconds(section.time_budget)
        space = parse_space(section.space, "search.space")
        return search.run_search(job, space, options, settings, context.observer, name=name, time_budget_s=budget).final_run
    if stored.status != JobStatus.FINISHED:
        return search.resume_search(name, settings, context.observer).final_run
    assert stored.final is not None  # the search is finished
    return stored.final.run_id


def register(context: PassContext, run_id: str, model: str) -> dict[str, Any]:
    """Register the model; gives ``version``."""
    start = context.start
    tags = {
        REQUEST_TAG: start.request_id,
        "retraining_pass": str(start.number),
        "dataset_version": str(start.dataset_version),
        "data_fingerprint": start.fingerprint,
    }
    version = context.journal.store.register(context.config.model, run_id, model, tags)
    describe_version_of(RunRef(context.settings.tracking_uri, run_id), context.config.model)
    return {"version": version.version}


def ask_gate(context: PassContext, run_id: str, version: int) -> dict[str, Any]:
    """Compare the new version with the champion of the pass; gives the verdict, and decisions on single images."""
    start, config, settings = context.start, context.config, context.settings
    if start.champion is None:
        return {"decision": None, "sentence": "no version was in force"}
    champion = read_version(context.journal, config.model, start.champion, config.dataset)
    evidence = _gather(context, champion, RunRef(settings.tracking_uri, run_id), version)
    store = context.journal.store
    record_verdict(settings.tracking_uri, store.version(store.model(config.model), version), champion.version, evidence.verdict)
    decisions = sorted(evidence.decisions, key=lambda item: (item.champion == item.challenger, not item.is_new))
    return {
        "decision": str(evidence.verdict.decision),
        "sentence": evidence.verdict.sentence.removeprefix(f"{evidence.verdict.decision}: "),
        "verdict": evidence.verdict.to_dict(),
        "decisions": [vars(item) for item in decisions[:MAX_DECISIONS]],
    }


def _gather(context: PassContext, champion: Champion, trained: RunRef, version: int) -> Evidence:
    settings, config = context.settings, context.config
    stored = open_reader(trained).stored_run()
    data = stored.job.data
    dataset = open_dataset(data.uri, data.format, cache=settings.cache, options=data.read_options)
    images = choose_test_images(dataset, stored.split.test, champion.seen, champion.trained)
    uri = settings.tracking_uri
    with TemporaryDirectory(prefix="adjobs-") as temporary:
        first, second = (
            TorchDetector.load(download(uri, f"models:/{config.model}/{number}", Path(temporary) / str(number)), engine="torch")
            for number in (champion.version.version, version)
        )
    return compare_detectors(first, second, dataset, images, config.gate, settings.cache)


def move_alias(context: PassContext, version: int, gate: Mapping[str, Any]) -> dict[str, Any]:
    """Put the version in force, or name it challenger, as the gate said; gives ``state`` and ``sentence``."""
    config, start = context.config, context.start
    decision, sentence = gate["decision"], gate["sentence"]
    if decision == "refuse":
        return {"state": RetrainState.REFUSED, "sentence": f"version {version} is not promoted: {sentence}"}
    alias = CHAMPION if decision in (None, "promote") and config.promote else CHALLENGER
    try:
        _promote(context, version, alias, None if decision is None else GateSummary(decision, sentence))
    except _StaleError as error:
        text = f"version {version} is not promoted: {error}; the next pass compares with it"
        return {"state": RetrainState.STALE, "sentence": text}
    if alias == CHAMPION:
        instead = "" if start.champion is None else f" in place of version {start.champion}"
        return {"state": RetrainState.PROMOTED, "sentence": f"version {version} is the champion{instead}: {sentence}"}
    reason = f"the gate cannot decide: {sentence}" if decision == "undecided" else sentence
    return {
        "state": RetrainState.CHALLENGER,
        "sentence": f"version {version} is the challenger: {reason}; "
        f"promote it with 'adjobs models promote {config.model}/{version}'",
    }


class _StaleError(Exception):
    """The champion is not the one that the gate compared with."""


def _promote(context: PassContext, version: int, alias: str, verdict: GateSummary | None) -> None:
    config, start, journal = context.config, context.start, context.journal
    state = journal.reconcile(config.model)
    was_made = any(record.request_id == start.request_id for record in state.records)
    if not was_made and state.champion != start.champion:
        current = "there is none now" if state.champion is None else f"version {state.champion} is the champion now"
        raise _StaleError(f"{current}, it was changed while the pass ran")
    if alias == CHALLENGER and state.model.aliases.get(CHALLENGER) == version and not was_made:
        return  # somebody else has named it
    expected = start.champion if alias == CHAMPION else None
    try:
        promote(
            journal,
            config.model,
            version,
            alias=alias,
            expected=expected,
            reason=f"retraining, pass {start.number}: {'; '.join(start.reasons)}",
            verdict=verdict,
            request_id=start.request_id,
        )
    except RegistryError as error:
        if alias == CHAMPION and journal.reconcile(config.model).champion not in (start.champion, version):
            raise _StaleError(str(error)) from error
        raise


def log_page(context: PassContext, run_id: str, render: Callable[[], str]) -> dict[str, Any]:
    """Store the summary page with the run; gives ``page``, its URI."""
    name = f"retraining/pass-{context.start.number}.html"
    open_writer(RunRef(context.settings.tracking_uri, run_id)).log_text(render(), name)
    return {"page": f"runs:/{run_id}/{name}"}
