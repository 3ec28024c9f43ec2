from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from adjobs.config.settings import Settings
from adjobs.errors import DataError, TrackingError
from adjobs.labelling import model as model_module
from adjobs.labelling.images import KnownImages
from adjobs.labelling.model import load_model
from adjobs.tracking.layout import RunRef
from tests.helpers.detectors import brightness_detector


@pytest.fixture
def settings(tmp_path):
    return Settings.from_env({"ADJOBS_HOME": str(tmp_path)})


@pytest.fixture
def reader(monkeypatch, tmp_path):
    """The reader of the run of any model, which has three validation scores."""
    scores = SimpleNamespace(score=np.array([1.0, 2.0, 3.0]))
    run_reader = SimpleNamespace(scores=lambda split: {"val": scores}[split], stored_run=lambda: "run")
    monkeypatch.setattr(model_module, "open_reader", lambda run: {"run-1": run_reader}[run.run_id])
    monkeypatch.setattr(model_module, "source_run", lambda uri, home, model: RunRef(uri, "run-1"))
    monkeypatch.setattr(model_module, "detector_folder", lambda uri, home, model: FakeFolder())
    monkeypatch.setattr(model_module.TorchDetector, "load", lambda folder, device: brightness_detector())
    monkeypatch.setattr(model_module, "find_known", lambda run, cache: KnownImages(defects=("dent",)))
    return run_reader


class FakeFolder:
    def __enter__(self):
        return "folder"

    def __exit__(self, *error):
        pass


def test_load_model_has_validation_scores_and_known_images(reader, settings):
    ranking = load_model("run-1", settings)
    assert (ranking.name, ranking.validation.tolist(), ranking.known.defects) == ("run-1", [1, 2, 3], ("dent",))


def test_load_model_alias_is_resolved_once(reader, settings, monkeypatch):
    monkeypatch.setattr(model_module, "pin_model_uri", lambda uri, model: {"models:/line@champion": "models:/line/3"}[model])
    assert load_model("models:/line@champion", settings).name == "models:/line/3"


@pytest.mark.parametrize("error", [DataError("data 'x': no such folder"), TrackingError("run run-1: its job is not recorded")])
def test_load_model_without_its_data_warns_and_goes_on(error, reader, settings, monkeypatch, caplog):
    def fail(run, cache):
        raise error

    monkeypatch.setattr(model_module, "find_known", fail)
    with caplog.at_level(logging.WARNING):
        assert load_model("run-1", settings).known == KnownImages()
    assert f"the training images cannot be read ({error})" in caplog.text


def test_load_model_without_validation_scores_warns_and_goes_on(reader, settings, caplog):
    def fail(split):
        raise TrackingError("run run-1: has no scores/val.json")

    reader.scores = fail
    with caplog.at_level(logging.WARNING):
        assert load_model("run-1", settings).validation.size == 0
    assert "has no scores/val.json; nearness to the threshold" in caplog.text
