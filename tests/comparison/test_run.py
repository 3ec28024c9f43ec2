"""A comparison from its data to the tested choice, interrupted on the way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjobs
from adjobs.comparison import run
from adjobs.comparison.config import ComparisonConfig, parse_comparison
from adjobs.comparison.observer import ComparisonObserver
from adjobs.config.settings import QueueSettings, Settings
from adjobs.errors import JobError, Stopped, TrackingError
from adjobs.jobs.run import resume
from adjobs.tracking.comparison import StoredComparison, find_comparison
from adjobs.tracking.layout import RunRef
from adjobs.tracking.runs import open_reader
from adjobs.types import JobStatus
from tests.helpers.drawing import draw_folder
from tests.helpers.folders import delete_unless_failed
from tests.helpers.tiny import small_params

pytestmark = pytest.mark.slow


class Interrupting(ComparisonObserver):
    """Presses Ctrl-C when a training whose text has this in it starts."""

    def __init__(self, text: str = "never") -> None:
        self.text, self.started = text, []

    def on_training_start(self, text: str) -> None:
        self.started.append(text)
        if self.text in text:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def settings(tmp_path_factory, empty_mlflow, request) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("home")
    draw_folder(home / "data", 24, 24, size=32)
    yield Settings(home, empty_mlflow(home), str(home / "artifacts"), None, home / "cache", QueueSettings(""))
    delete_unless_failed(home, request)


def config(settings: Settings, *names: str, **compare: Any) -> ComparisonConfig:
    methods = [{"method": name, "params": small_params(name) | {"epochs": 1}} for name in names]
    data = {"uri": str(settings.home / "data"), "image_size": 32}
    return parse_comparison({"data": data, "compare": {"methods": methods, "budget": "10m", **compare}})


def stored(settings: Settings, name: str) -> StoredComparison:
    return find_comparison(settings.tracking_uri, name)


def test_comparison_interrupted_in_every_phase_ends_as_an_undisturbed_one(settings):
    wanted = config(settings, "dpae", "liac")
    with pytest.raises(Stopped, match="adjobs compare --resume night"):
        run.run_comparison(wanted, settings, Interrupting("method 2 of 2"), backend="local", name="night")
    assert Counter(child.tags["candidate"] for child in stored(settings, "night").children) == {"dpae": 1}
    phases = ["learning curve of liac", "test of"]
    for phase in phases:
        with pytest.raises(Stopped):
            run.resume_comparison("night", settings, Interrupting(phase))
    observer = Interrupting()
    result = run.resume_comparison("night", settings, observer)
    assert [text.partition(" ")[0] for text in observer.started] == ["test"]  # all else was kept

    ranking = result.ranking
    assert sorted(method.name for method in ranking.complete) == ["dpae", "liac"]
    assert [point.value is not None for point in ranking.curves] == [True, True]
    kept = stored(settings, "night")
    assert kept.status == JobStatus.FINISHED
    assert {child.status for child in kept.children} == {JobStatus.FINISHED}
    assert len(kept.children) == 4
    tested = [child for child in kept.children if any(name.startswith("test/") for name in child.metrics)]
    assert [child.run_id for child in tested] == [result.chosen_run]
    assert result.test["image_auroc"].value == tested[0].metrics["test/image_auroc"]
    reader = open_reader(RunRef(settings.tracking_uri, result.run_id))
    assert json.loads(reader.read_text("comparison.json"))["chosen"] == result.chosen
    assert result.recommendation[0] in reader.read_text("summary.md")
    assert set(reader.figures()) == {"comparison"}
    assert [path.name for path in Path(settings.artifacts, "checkpoints").iterdir()] == [result.chosen_run]
    with pytest.raises(TrackingError, match="comparison 'night': is FINISHED, its test split was evaluated"):
        run.resume_comparison("night", settings, observer)


def test_comparison_chosen_run_is_the_training_that_was_ranked(settings, monkeypatch):
    """The test resumes the finished training: validation gives the same scores again, and the model loads."""
    wanted = config(settings, "dpae", budget="1s")
    result = run.run_comparison(wanted, settings, ComparisonObserver(), backend="local")
    ref = RunRef(settings.tracking_uri, result.chosen_run)
    reader = open_reader(ref)
    outcome = reader.read_json("candidate.json")
    assert outcome["values"]["image_auroc"] == reader.info.metrics["val/image_auroc"]
    assert reader.info.tags["kind"] == "candidate"
    with pytest.raises(TrackingError, match="belongs to a comparison"):
        resume(ref, settings, on_progress=lambda update: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri)
    detector = adjobs.load_detector(str(result.model))
    assert np.isfinite(detector(settings.home / "data" / "good" / "000.png").score)


def test_comparison_method_that_fails_is_listed_and_the_others_go_on(settings, monkeypatch):
    real = run.Trainings._open

    def refuse(trainings, candidate, run_id):
        task = real(trainings, candidate, run_id)
        if candidate.name == "dpae":
            monkeypatch.setattr("adjobs.training.backends.local.run_worker", fail)
        else:
            monkeypatch.undo()
        return task

    def fail(*arguments: object) -> None:
        raise JobError("its training diverged")

    monkeypatch.setattr(run.Trainings, "_open", refuse)
    result = run.run_comparison(config(settings, "dpae", "cdo"), settings, ComparisonObserver(), backend="local", name="half")
    assert [(method.name, method.state) for method in result.ranking.methods] == [("cdo", "complete"), ("dpae", "failed")]
    assert result.ranking.methods[1].reason == "its training diverged"
    child = stored(settings, "half").child("dpae")
    assert (child.status, child.tags["state"], child.tags["error"]) == (JobStatus.FAILED, "failed", "its training diverged")
