"""The programs of benchmarks/ start: they do not run between two releases, and a rename must not break them unnoticed."""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from adjobs.config.resolve import resolve
from adjobs.inference.torch_detector import TorchDetector
from adjobs.tuning.finalists import Finalist
from adjobs.tuning.objective import Objective
from adjobs.tuning.result import Optimism, SearchResult, StudyResult, TrialResult
from adjobs.tuning.state import TrialState

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROGRAMS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in path.read_text())


@pytest.fixture
def module_path(monkeypatch):
    """The modules that the programs share are found, and forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - before:
        if BENCHMARKS in Path(getattr(sys.modules[name], "__file__", None) or "/").parents:
            del sys.modules[name]


def test_programs_are_listed():
    assert {"accuracy", "throughput"} <= set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_help_names_its_options(program, module_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [program, "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(BENCHMARKS / f"{program}.py"), run_name="__main__")
    assert stopped.value.code == 0
    assert "--" in capsys.readouterr().out


@pytest.mark.parametrize("program", ["dpae", "semirest", "slsg"])
def test_program_variants_are_valid_jobs(program, module_path, monkeypatch, tmp_path):
    """The parameters of every variant exist, whatever they are called by now."""
    module = runpy.run_path(str(BENCHMARKS / f"{program}.py"))
    monkeypatch.setattr(sys, "argv", [program, "x", "--runs", str(tmp_path)])
    arguments = module["make_parser"](None, (0,), program).parse_args()
    arguments.pixel_width = None
    protocol = [] if program == "semirest" else ["holdout"]
    for variant in module["VARIANTS"]:
        job = module["make_job"](arguments, "x", *protocol, variant, 0, 0)
        assert (job.method, job.track) == (program, None)


@pytest.mark.parametrize("method", ["cdo", "liac"])
def test_predict_folder_makes_detectors_that_predict(method, module_path, tmp_path):
    module = runpy.run_path(str(BENCHMARKS / "predict_folder.py"))
    images = tmp_path / "images"
    images.mkdir()
    module["draw_images"](images, 16)
    paths = sorted(images.iterdir())
    module["save_detector"](tmp_path / "detector", method, 64, paths)
    predicted = TorchDetector.load(tmp_path / "detector", "cpu").predict_arrays(np.zeros((2, 64, 64, 3), np.uint8))
    assert np.isfinite(predicted.score).all()


def test_step_cpu_is_faster_where_more_images_are_trained_on_or_less_time_is_taken(module_path, monkeypatch, tmp_path):
    module = importlib.import_module("step_cpu")
    ours = {"images_per_s": 30.0, "predict_ms_1": 4.0, "predict_ms_16": 8.0}
    old = {"images_per_s": 10.0, "predict_ms_1": 8.0, "predict_ms_16": 4.0}
    monkeypatch.setattr(module, "measure_build", lambda checkout, settings, *_: {settings[0]["name"]: old if checkout else ours})
    row = module.compare(tmp_path, module.SETTINGS_BY_NAME["cdo-default"], 2, 1.0)
    assert row[:4] == ["cdo-default", "30.00", "10.00", "3.00 (3.00 to 3.00)"]
    assert row[4:] == ["4.00", "8.00", "2.00 (2.00 to 2.00)", "8.00", "4.00", "0.50 (0.50 to 0.50)"]


def test_step_cpu_ends_with_the_reason_where_a_build_cannot_compute_a_setting(module_path, monkeypatch, tmp_path):
    module = importlib.import_module("step_cpu")
    monkeypatch.setattr(module, "measure_build", lambda checkout, settings, *_: {settings[0]["name"]: {"error": "no such key"}})
    with pytest.raises(SystemExit, match=r"cdo-default, .*: no such key"):
        module.compare(tmp_path, module.SETTINGS_BY_NAME["cdo-default"], 1, 1.0)


def test_images_drawn_for_speed_are_in_memory_as_in_the_cache(module_path, tmp_path):
    data = importlib.import_module("build_speed").drawn_data(16, torch.device("cpu"), tmp_path)
    assert data.packer.images.flags.c_contiguous  # otherwise packing a batch copies all images first


def test_searched_page_shows_trials_and_choice(module_path, monkeypatch, tmp_path, capsys):
    objective = Objective("image_auroc", "max")
    values = [0.8, 0.9]
    trials = [
        TrialResult(i, f"run-{i}", {"params.gamma": i}, TrialState.COMPLETE, "", 1, 10.0, {"image_auroc": value})
        for i, value in enumerate(values)
    ]
    trials.append(TrialResult(2, "run-2", {"params.gamma": 2}, TrialState.PRUNED, "below the median", 1, 5.0, {}))
    repeat = TrialResult(3, "run-3", {"params.gamma": 1, "train.seed": 5}, TrialState.COMPLETE, "", 1, 10.0, {"image_auroc": 0.7})
    finalists = (Finalist(1, {4: 0.9, 5: 0.7}), Finalist(0, {4: 0.8}))
    study = StudyResult((objective,), (*trials, repeat), trials[1], finalists, 0.8, (), {"params.gamma": 1.0}, 0)
    optimism = {"image_auroc": Optimism(0.9, 0.88, 0.85, 0.8, 0.9, 0.05)}
    result = SearchResult("s", "run", None, "sqlite:///x", "cdo", "elpv", study, optimism, "final", "models:/m-1", 60.0)
    (tmp_path / "search.json").write_text(json.dumps(result.to_dict()))
    monkeypatch.setattr(sys, "argv", ["searched", str(tmp_path / "search.json"), "--name", "page"])
    monkeypatch.setattr(importlib.import_module("report"), "RESULTS", tmp_path / "results")
    runpy.run_path(str(BENCHMARKS / "searched.py"), run_name="__main__")
    page = (tmp_path / "results" / "page.md").read_text()
    assert page in capsys.readouterr().out
    assert "3 trials: 2 complete, 1 pruned" in page
    assert page.index("| gamma 1 | 1 | 0.9000 | 10 |") < page.index("| gamma 0 | 0 | 0.8000 | 10 |")
    assert "the job as it is: 0.8000" in page
    assert "test **0.8500** (95 %: 0.800 to 0.900)" in page
    assert "gamma 1.00" in page
    assert "| 1 | 0.9000 | 0.7000 |\n| 0 | 0.8000 | - |\n\nStandard deviation over seeds: 0.1414." in page


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "jobs").glob("*.yaml")), ids=lambda path: path.stem)
def test_job_file_is_valid(path):
    document = yaml.safe_load(path.read_text())
    assert resolve({**document, "data": {"uri": "x"}}).method == document["method"]
