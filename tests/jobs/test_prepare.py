"""A job, prepared for workers that run elsewhere."""

from __future__ import annotations

from pathlib import Path

from adjobs import methods
from adjobs.jobs.prepare import _with_choice_of, prepare, with_absolute_paths
from tests.helpers.detectors import make_manifest
from tests.helpers.drawing import draw_folder
from tests.helpers.jobs import local_settings, resolved_job
from tests.helpers.versioned import add, create, draw


def test_with_absolute_paths_expands_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert with_absolute_paths(resolved_job(Path("~/images"))).data.uri == str(tmp_path / "images")


def test_with_absolute_paths_keeps_keywords_and_resolves_files_of_method_parameters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").touch()
    (tmp_path / "none").touch()  # a file that is called like a keyword
    job = resolved_job(tmp_path)
    assert "weights" in methods.path_params("cdo")
    for given, expected in (("w.pt", str(tmp_path / "w.pt")), ("none", "none"), ("s3://b/w.pt", "s3://b/w.pt")):
        changed = job.model_copy(update={"params": {**job.params, "weights": given}})
        assert with_absolute_paths(changed).params["weights"] == expected


def test_with_absolute_paths_of_a_working_directory_keeps_files_relative_and_data_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").touch()
    (tmp_path / "split.json").touch()
    job = resolved_job(Path("images"))
    job = job.model_copy(
        update={
            "params": {**job.params, "weights": "w.pt"},
            "data": job.data.model_copy(update={"split": "split.json"}),
        }
    )
    kept = with_absolute_paths(job, keep_relative=True)
    assert (kept.params["weights"], kept.data.split, kept.data.uri) == ("w.pt", "split.json", str(tmp_path / "images"))


def test_prepare_grown_data_set_is_read_in_the_version_of_the_first_preparation(tmp_path):
    settings = local_settings(tmp_path)
    create(tmp_path, draw_folder(tmp_path / "source", 20, 10, 32))
    first = prepare(resolved_job(tmp_path / "set", protocol="official"), settings)
    assert first.job.data.version == 1
    add(tmp_path, draw(tmp_path / "inbox", "good/x.png scratch/y.png", seed=1))
    again = prepare(first.job, settings)
    assert (again.job, again.data.fingerprint) == (first.job, first.data.fingerprint)
    newest = prepare(resolved_job(tmp_path / "set", protocol="official"), settings)
    assert (newest.job.data.version, len(newest.data.dataset.samples)) == (2, 32)


def test_a_job_that_starts_with_a_model_takes_its_choice_unless_it_names_one(tmp_path):
    manifest = make_manifest("cdo", {"distance": "nearest"})
    open_job = resolved_job(tmp_path)
    assert _with_choice_of(manifest, open_job).params["distance"] == "nearest"
    named = open_job.model_copy(update={"params": {**open_job.params, "distance": "mahalanobis"}})
    assert _with_choice_of(manifest, named) == named
    assert _with_choice_of(make_manifest("dpae"), open_job) == open_job
