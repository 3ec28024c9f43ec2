"""What is checked of a job's data before a run is opened."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adjobs.config.resolve import resolve
from adjobs.data.dataset import fingerprint
from adjobs.data.image_reading import ImageReading
from adjobs.data.open import open_dataset
from adjobs.data.splits.assignment import make_split, write_split
from adjobs.errors import DataError, JobError
from adjobs.jobs import data
from adjobs.jobs.data import prepare_data, with_version
from tests.helpers.drawing import draw_folder, save
from tests.helpers.jobs import local_settings, resolved_job
from tests.helpers.versioned import add, create, draw, open_set


@pytest.fixture
def settings(tmp_path):
    return local_settings(tmp_path)


def test_prepare_data_unreadable_file_can_be_skipped(folder_root, settings):
    (folder_root / "good" / "broken.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"1 problem found, first: good/broken.png: .*, or set data.skip_invalid=true$"):
        prepare_data(resolved_job(folder_root), settings)
    prepared = prepare_data(resolved_job(folder_root, skip_invalid=True), settings)
    (folder_root / "good" / "broken.png").unlink()
    intact = open_dataset(str(folder_root), cache=settings.cache)
    assert (prepared.dataset, prepared.fingerprint) == (intact, fingerprint(intact))


def test_prepare_data_damaged_cached_answer_is_computed_again(folder_root, settings):
    first = prepare_data(resolved_job(folder_root), settings)
    (answer,) = (settings.cache / "checked").iterdir()
    answer.write_text("")
    assert prepare_data(resolved_job(folder_root), settings) == first
    assert json.loads(answer.read_text())["problems"] == []


def test_prepare_data_images_of_12_bits_get_one_reading_which_the_job_may_set(tmp_path, settings):
    root = draw_folder(tmp_path / "deep", 12, 6)
    for path in (*root.glob("good/*"), *root.glob("bad/*/*")):
        save(path, np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16)
    reading = ImageReading(white=4095, depths="more than 8 bits")
    prepared = prepare_data(resolved_job(root), settings)
    assert (prepared.reading, prepared.problems) == (reading, [])
    again = prepare_data(resolved_job(root), settings).reading  # from the stored answer
    assert (again, again.darkest_peak) == (reading, prepared.reading.darkest_peak)
    assert 1600 < again.darkest_peak < 4095
    assert prepare_data(resolved_job(root, bit_depth=14), settings).reading.white == 16383
    in_range = prepare_data(resolved_job(root, value_range=[100, 4000]), settings)
    assert (in_range.reading.black, in_range.reading.white) == (100, 4000)
    assert [problem.kind for problem in in_range.problems] in ([], ["clipped"])


def test_prepare_data_of_a_resumed_run_skips_the_same_samples(folder_root, settings):
    (folder_root / "good" / "000.png").write_bytes(b"not an image")
    first = prepare_data(resolved_job(folder_root, skip_invalid=True), settings)
    resumed = prepare_data(resolved_job(folder_root, skip_invalid=True), settings, split=first.split)
    assert (resumed.fingerprint, resumed.split) == (first.fingerprint, first.split)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_train_anomalies": 99}, "max_train_anomalies is 99"), ({"protocol": "official"}, "no published splits")],
)
def test_prepare_data_impossible_split_is_refused_before_images_are_read(options, message, folder_root, settings, monkeypatch):
    monkeypatch.setattr(data, "fingerprint", None)
    with pytest.raises((JobError, DataError), match=message):
        prepare_data(resolved_job(folder_root, **options), settings)


@pytest.mark.parametrize("job", [{"method": "liac"}, {"method": "cdo", "params": {"use_labelled_masks": True}}])
def test_prepare_data_normal_images_alone_are_refused_where_labelled_anomalies_train(job, tmp_path, settings, monkeypatch):
    root = draw_folder(tmp_path / "normal", 20, 0)
    monkeypatch.setattr(data, "fingerprint", None)  # before images are read
    with pytest.raises(DataError, match=r"^method \w+ learns from labelled anomalies \(.*\); the training split has none;"):
        prepare_data(resolve({**job, "data": {"uri": str(root)}}), settings)


def test_prepare_data_normal_images_alone_are_enough_for_other_methods(tmp_path, settings):
    prepared = prepare_data(resolved_job(draw_folder(tmp_path / "normal", 20, 0)), settings)
    assert [(problem.kind, problem.severity) for problem in prepared.problems] == [("no anomalous images in test", "warning")]
    assert [len(ids) for ids in (prepared.split.train, prepared.split.val, prepared.split.test)] == [12, 4, 4]


def test_prepare_data_split_from_a_file(folder_root, settings, tmp_path, monkeypatch):
    split = make_split(open_dataset(str(folder_root), cache=settings.cache), "liac", max_train_anomalies=2)
    write_split(split, tmp_path / "split.json")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepare_data(resolved_job(folder_root, split="~/split.json"), settings).split == split
    with pytest.raises(
        JobError,
        match=r"^data.max_train_anomalies: got 3 beside data.split .*split.json, which says itself which anomalies train",
    ):
        prepare_data(resolved_job(folder_root, split="~/split.json", max_train_anomalies=3), settings)
    assert prepare_data(resolved_job(folder_root, split="gone.json"), settings, split=split).split == split
    with pytest.raises(DataError, match=r"good/gone.png is not a labelled sample"):
        prepare_data(resolved_job(folder_root), settings, split=dataclasses.replace(split, val=(*split.val, "good/gone.png")))


def test_prepare_data_cache_that_cannot_be_written_is_a_warning(folder_root, settings, caplog):
    settings.cache.mkdir(parents=True)
    (settings.cache / "checked").write_text("not a folder")
    with caplog.at_level("WARNING", "adjobs"):
        assert prepare_data(resolved_job(folder_root), settings).problems == []
    (record,) = caplog.records
    assert record.getMessage().startswith(f"cannot write {settings.cache / 'checked'}")
    assert record.getMessage().endswith("; the next job checks the data again")


def test_prepare_data_too_little_memory_is_not_remembered(folder_root, settings, monkeypatch):
    def inspect_labels(sample, size):
        if sample.id == "bad/scratch/000.png":
            raise MemoryError
        return [], None

    job = resolved_job(folder_root, skip_invalid=True)
    with monkeypatch.context() as patch:
        patch.setattr("adjobs.data.checks.images.inspect_labels", inspect_labels)
        assert [problem.kind for problem in prepare_data(job, settings).problems] == ["out of memory"]
    assert prepare_data(job, settings).problems == []


# Data sets with versions


@pytest.fixture
def versioned(tmp_path: Path) -> Path:
    """A folder whose ``set`` has version 1, of 20 normal and 10 anomalous images."""
    create(tmp_path, draw_folder(tmp_path / "source", 20, 10, 32))
    return tmp_path


def test_prepare_data_version_has_the_splits_of_its_creation(versioned, settings):
    prepared = prepare_data(resolved_job(versioned / "set", protocol="official"), settings)
    entries = open_set(versioned).samples()
    for name in ("train", "val", "test"):
        assert list(getattr(prepared.split, name)) == [entry.id for entry in entries if entry.split == name]
    assert prepared.fingerprint == open_set(versioned).record().fingerprint


def test_prepare_data_other_protocol_of_a_version_is_refused(versioned, settings):
    with pytest.raises(JobError, match=r"^data.protocol: got holdout, .*has versions.*set data.protocol=official"):
        prepare_data(resolved_job(versioned / "set"), settings)


def test_prepare_data_split_file_of_a_version_is_allowed(versioned, settings):
    dataset = open_dataset(str(versioned / "set"), cache=settings.cache)
    write_split(make_split(dataset, "holdout", seed=8), versioned / "split.json")
    prepared = prepare_data(resolved_job(versioned / "set", split=str(versioned / "split.json")), settings)
    assert prepared.split.seed == 8


def test_prepare_data_changed_file_of_a_version_is_refused(versioned, settings):
    path = next((versioned / "set" / "files").rglob("good/000.png"))
    save(path, np.zeros((32, 32, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"the files of version 1 in .* have changed since it was made; restore them"):
        prepare_data(resolved_job(versioned / "set", protocol="official"), settings)


def test_with_version_newest_is_pinned_and_a_chosen_one_kept(versioned):
    add(versioned, draw(versioned / "inbox", "good/x.png", seed=1))
    section = resolved_job(versioned / "set").data
    assert with_version(section).version == 2
    assert with_version(section.model_copy(update={"version": 1})).version == 1
    assert with_version(resolved_job(versioned / "source").data).version is None
    assert with_version(resolved_job(Path("elpv")).data).version is None
