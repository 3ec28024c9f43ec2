"""What the launcher finds in the data before a run is opened."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from adjobs.config.job import JobConfig
from adjobs.config.resolve import resolve
from adjobs.config.settings import Settings
from adjobs.data.dataset import fingerprint
from adjobs.data.open import open_dataset
from adjobs.data.splits.assignment import make_split, write_split
from adjobs.errors import DataError, JobError
from adjobs.jobs import prepare, run


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.delenv("ADJOBS_CACHE", raising=False)
    return Settings(tmp_path / "home", "sqlite:///unused", str(tmp_path / "artifacts"), None, tmp_path / "home" / "cache")


def job(root: Path, **data: object) -> JobConfig:
    return resolve({"method": "cdo", "data": {"uri": str(root), **data}})


def test_a_file_that_is_unreadable_can_be_left_out(folder_root, settings):
    (folder_root / "good" / "broken.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"1 problems, first: good/broken.png: .*, or set data.skip_invalid=true$"):
        prepare.prepare_data(job(folder_root), settings)
    found = prepare.prepare_data(job(folder_root, skip_invalid=True), settings)
    (folder_root / "good" / "broken.png").unlink()
    whole = open_dataset(str(folder_root), cache=settings.cache)
    assert (found.samples, found.fingerprint) == (whole, fingerprint(whole))


def test_the_same_question_again_and_a_damaged_answer(folder_root, settings):
    first = prepare.prepare_data(job(folder_root), settings)
    (kept,) = (settings.cache / "checked").iterdir()
    kept.write_text("")
    assert prepare.prepare_data(job(folder_root), settings) == first
    assert kept.read_text() == "[]"


def test_a_resumed_run_leaves_out_the_same(folder_root, settings):
    (folder_root / "good" / "000.png").write_bytes(b"no image")
    first = prepare.prepare_data(job(folder_root, skip_invalid=True), settings)
    again = prepare.prepare_data(job(folder_root, skip_invalid=True), settings, split=first.split)
    assert (again.fingerprint, again.split) == (first.fingerprint, first.split)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_train_anomalies": 99}, "max_train_anomalies is 99"), ({"protocol": "official"}, "no published splits")],
)
def test_what_cannot_be_divided_is_said_before_images_are_read(options, message, folder_root, settings, monkeypatch):
    monkeypatch.setattr(prepare, "fingerprint", None)
    with pytest.raises((JobError, DataError), match=message):
        prepare.prepare_data(job(folder_root, **options), settings)


def test_a_split_from_a_file(folder_root, settings, tmp_path, monkeypatch):
    split = make_split(open_dataset(str(folder_root), cache=settings.cache), "liac", max_train_anomalies=2)
    write_split(split, tmp_path / "split.json")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepare.prepare_data(job(folder_root, split="~/split.json"), settings).split == split
    with pytest.raises(
        JobError,
        match=r"^data.max_train_anomalies: got 3 beside data.split .*split.json, which says itself which anomalies train",
    ):
        prepare.prepare_data(job(folder_root, split="~/split.json", max_train_anomalies=3), settings)
    assert prepare.prepare_data(job(folder_root, split="gone.json"), settings, split=split).split == split
    with pytest.raises(DataError, match=r"good/gone.png is not a labelled sample"):
        prepare.prepare_data(job(folder_root), settings, split=dataclasses.replace(split, val=(*split.val, "good/gone.png")))


def test_the_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run.with_absolute_paths(job(Path("~/pictures"))).data.uri == str(tmp_path / "pictures")
