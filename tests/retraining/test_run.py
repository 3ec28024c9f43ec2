"""When a pass starts, in which order its steps are done, and how it goes on. The steps themselves are replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adjobs.errors import DataError, JobError, TrackingError
from adjobs.retraining import lease, run, steps, webhook
from adjobs.retraining.observer import RetrainObserver
from adjobs.retraining.result import RetrainResult
from adjobs.retraining.run import abandon, location, preview_retraining, run_retraining
from adjobs.storage import open_store
from tests.helpers.retraining import MODEL, make_config, settings_of

NOW = datetime(2026, 11, 28, 21, 30, tzinfo=UTC)
STEPS = ["train", "register", "gate", "alias", "page"]


@dataclass
class World:
    """Data set, registry and steps, as far as a pass sees them."""

    folder: Path
    labels: list[str] = field(default_factory=lambda: [f"old/{i}" for i in range(10)])
    inbox: list[str] = field(default_factory=list)
    version: int = 1
    champion: Any = None
    now: datetime = NOW
    calls: list[str] = field(default_factory=list)
    fail: dict[str, BaseException] = field(default_factory=dict)
    drift: Any = None
    drift_options: Any = None

    def run(self, force: bool = False, **changes: Any) -> RetrainResult:
        config = make_config(self.folder, **changes)
        observer, settings = RetrainObserver(), settings_of(self.folder)
        return run_retraining(config, settings, observer, backend="local", force=force, clock=lambda: self.now)

    def preview(self, **changes: Any) -> RetrainResult:
        return preview_retraining(
            make_config(self.folder, **changes), settings_of(self.folder), RetrainObserver(), lambda: self.now
        )

    def add(self, *_: Any, dry_run: bool = False, **__: Any) -> Any:
        added = [name for name in self.inbox if name not in self.labels]
        if added and not dry_run:
            self.labels += added
            self.version += 1
        return SimpleNamespace(added=len(added), updated=0, duplicates=len(self.inbox) - len(added), set_aside=())

    def open(self, _: str) -> Any:
        record = SimpleNamespace(number=self.version, fingerprint=f"fingerprint-{self.version}")
        entries = [SimpleNamespace(id=name, label="anomalous") for name in self.labels]
        return SimpleNamespace(latest=lambda: record, samples=lambda _: entries)

    def measure_drift(self, model: str, images: str, _: Any, options: Any) -> Any:
        self.drift_options = (model, images, options.alpha, options.max_anomalous_share)
        return self.drift

    def promote(self, version: int) -> None:
        self.champion = SimpleNamespace(
            version=SimpleNamespace(version=version, uri=f"models:/{MODEL}/{version}"),
            since=self.now,
            seen=frozenset(self.labels),
        )

    def step(self, name: str, outcome: Callable[[], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def work(*_: Any) -> dict[str, Any]:
            self.calls.append(name)
            if name in self.fail:
                raise self.fail.pop(name)
            return outcome()

        return work

    def move_alias(self) -> dict[str, Any]:
        self.promote(7)
        return {"state": "promoted", "sentence": "version 7 is the champion"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    monkeypatch.setattr(run, "ModelStore", lambda _: None)
    monkeypatch.setattr(run, "Journal", lambda *_: SimpleNamespace(user="ann"))
    monkeypatch.setattr(run, "add_to_dataset", world.add)
    monkeypatch.setattr(run, "VersionedDataset", SimpleNamespace(open=world.open))
    monkeypatch.setattr(run, "find_champion", lambda *_: world.champion)
    monkeypatch.setattr(run, "measure_drift", world.measure_drift)
    gate = {"decision": "promote", "sentence": "all checks passed"}
    monkeypatch.setattr(steps, "train", world.step("train", lambda: {"run_id": "r1", "model": "models:/m-1"}))
    monkeypatch.setattr(steps, "register", world.step("register", lambda: {"version": 7}))
    monkeypatch.setattr(steps, "ask_gate", world.step("gate", lambda: gate))
    monkeypatch.setattr(steps, "move_alias", world.step("alias", world.move_alias))
    monkeypatch.setattr(steps, "log_page", world.step("page", lambda: {"page": "runs:/r1/retraining/pass.html"}))
    return world


def test_the_first_pass_needs_no_new_labels(world):
    result = world.run()
    assert world.calls == STEPS
    assert (str(result.state), result.number, result.version, result.champion) == ("promoted", 1, 7, None)
    assert result.reasons == ("no version is in force yet",)


def test_a_pass_starts_with_enough_new_labels(world):
    world.promote(3)
    world.inbox = [f"new/{i}" for i in range(4)]
    result = world.run()
    assert (str(result.state), world.calls) == ("not due", [])
    assert "4 new labels, of 5 that are needed" in result.sentence
    assert result.taken_in is not None
    assert result.taken_in.added == 4  # taken in all the same
    world.inbox += ["new/4"]
    result = world.run()
    assert (str(result.state), result.dataset_version, result.reasons) == ("promoted", 3, ("5 new labels",))


def test_a_pass_is_not_repeated_while_nothing_changes(world):
    world.run()
    world.champion = None  # taken away again
    result = world.run()
    assert result.number is None
    assert "nothing has changed since pass 1" in result.sentence
    assert world.run(force=True).number == 2


@pytest.mark.parametrize("days", [-3650, 3650])
def test_a_clock_that_jumps_starts_one_pass_at_most(world, days):
    world.run()
    world.now += timedelta(days=days)
    numbers = [world.run(when={"max_age": "30d", "new_labels": 5}).number for _ in range(3)]
    assert numbers in ([None] * 3, [2, None, None])


def test_no_pass_outside_the_hours_and_nothing_is_taken_in(world):
    world.inbox = ["new/0"]
    result = world.run(when={"hours": "01:00-05:00"})
    assert result.sentence == "not due: it is outside the hours 01:00-05:00 (UTC)"  # labels were not counted
    assert (world.version, result.taken_in) == (1, None)
    assert world.run(force=True, when={"hours": "01:00-05:00"}).number == 1


def test_drift_is_measured_only_if_nothing_else_is_reason_enough(world):
    world.promote(3)
    world.drift = SimpleNamespace(has_drifted=True, sentence="drift: brightness fell from 112 to 96")
    when = {"new_labels": 5, "drift": {"images": str(world.folder / "recent"), "max_anomalous_share": 0.2}}
    assert world.run(when=when).reasons == ("drift: brightness fell from 112 to 96",)
    assert world.drift_options == (f"models:/{MODEL}/3", str(world.folder / "recent"), 0.01, 0.2)
    world.drift = None  # would raise if it was asked
    world.inbox = [f"new/{i}" for i in range(5)]
    assert world.run(when=when).reasons == ("5 new labels",)


@pytest.mark.parametrize("has_drifted", [False, None])
def test_no_drift_shown_is_no_reason(world, has_drifted):
    world.promote(3)
    world.drift = SimpleNamespace(has_drifted=has_drifted, sentence="no drift is shown")
    assert "no drift was shown" in world.run(when={"new_labels": None, "drift": {"images": "recent"}}).sentence


@pytest.mark.parametrize("step", STEPS)
def test_a_pass_that_could_not_reach_a_service_goes_on_with_the_step_it_was_in(world, step):
    world.fail[step] = TrackingError("MLflow does not answer")
    with pytest.raises(TrackingError):
        world.run()
    before = list(world.calls)
    world.labels += ["later/0"] * 9  # what came since is for the next pass
    result = world.run(job={"method": "dpae", "data": {"image_size": 32}})
    assert world.calls == before + STEPS[STEPS.index(step) :]
    assert (result.number, str(result.state), result.dataset_version) == (1, "promoted", 1)


def test_a_pass_with_an_error_of_its_own_is_closed_and_not_repeated(world):
    world.fail["train"] = DataError("data 'x': 3 problems found")
    with pytest.raises(DataError):
        world.run()
    result = world.run()
    assert "nothing has changed since pass 1" in result.sentence
    assert world.calls == ["train"]


def test_a_second_call_while_a_pass_runs_is_in_flight(world, monkeypatch):
    inner: list[RetrainResult] = []
    monkeypatch.setattr(steps, "train", lambda _: inner.append(world.run()) or {"run_id": "r1", "model": "m"})
    assert str(world.run().state) == "promoted"
    assert str(inner[0].state) == "in flight"


def test_a_process_that_was_taken_for_dead_writes_nothing_more(world, monkeypatch):
    store = open_store(location(settings_of(world.folder).artifacts, MODEL))

    def train(_: Any) -> dict[str, Any]:
        store.write(f"leases/{lease.last_number(store) + 1:08}.json", b"{}")
        return {"run_id": "r1", "model": "m"}

    monkeypatch.setattr(steps, "train", train)
    with pytest.raises(Exception, match="another process has taken over"):
        world.run()
    assert world.calls == []


def test_preview_changes_nothing(world):
    world.promote(3)
    world.inbox = [f"new/{i}" for i in range(5)]
    result = world.preview()
    assert (str(result.state), result.sentence) == ("due", "due: 5 new labels (--dry-run: nothing was changed)")
    assert (world.version, world.calls, result.champion) == (1, [], 3)
    assert not Path(location(settings_of(world.folder).artifacts, MODEL)).exists()


def test_abandon_closes_an_interrupted_pass(world):
    settings = settings_of(world.folder)
    with pytest.raises(DataError, match="no pass was interrupted"):
        abandon(MODEL, settings, "")
    world.fail["gate"] = TrackingError("MLflow does not answer")
    with pytest.raises(TrackingError):
        world.run()
    assert str(abandon(MODEL, settings, "wrong job").state) == "abandoned"
    world.labels += ["new/1"]
    world.version += 1
    assert world.run().number == 2


def test_the_summary_is_sent_until_it_is_accepted_and_then_no_more(world, monkeypatch):
    sent: list[tuple[str, dict[str, Any]]] = []
    answers = iter([False, True, True])

    def send(url: str, key: Any, summary: Any, identifier: str) -> bool:
        sent.append((identifier, dict(summary)))
        return next(answers)

    monkeypatch.setattr(webhook, "send", send)
    hook = {"url": "http://127.0.0.1:9"}
    assert world.run(webhook=hook).notified is False
    for _ in range(2):
        world.run(webhook=hook)
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert (sent[0][1]["state"], sent[0][1]["pass"], sent[0][1]["version"]) == ("promoted", 1, 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"webhook": {"url": "http://127.0.0.1", "secret_file": "/nowhere/key"}}, "webhook.secret_file"),
        ({"search": {"space": {"method": "cdo", "parameters": {"params.gamma": {"uniform": [0, 3]}}}}}, "remove --local"),
    ],
)
def test_what_this_process_cannot_do_is_refused_before_a_pass_starts(world, change, message):
    with pytest.raises(JobError, match=message):
        world.run(**change)
    assert world.calls == []
    assert world.run().number == 1


def test_results_are_json(world):
    import json

    assert json.loads(json.dumps(world.run().to_dict()))["state"] == "promoted"
    assert replace(RetrainResult("m", run.RetrainState.NOT_DUE, "x")).to_dict()["number"] is None
