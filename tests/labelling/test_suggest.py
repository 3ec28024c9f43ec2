from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adjobs.config.settings import Settings
from adjobs.errors import DataError, JobError
from adjobs.labelling import candidates as candidates_module
from adjobs.labelling.images import KnownImages
from adjobs.labelling.model import RankingModel
from adjobs.labelling.suggest import SuggestOptions, SuggestResult, suggest
from tests.helpers.detectors import NotFinite, brightness_detector, draw_image


@pytest.fixture
def settings(tmp_path):
    return Settings.from_env({"ADJOBS_HOME": str(tmp_path / "home")})


@pytest.fixture
def run(monkeypatch, settings, tmp_path):
    """Suggest images of a folder with a detector whose threshold is 0.8."""

    def run_suggest(known: KnownImages | None = None, validation=(), method=None, gives_map=True, **options) -> SuggestResult:
        detector = brightness_detector(method=method, gives_map=gives_map, pixel=0.5 if gives_map else None)
        ranking = RankingModel("models:/line/3", detector, np.array(validation, dtype=float), known or KnownImages())
        monkeypatch.setattr(candidates_module, "load_model", lambda model, settings: ranking)
        return suggest("models:/line@champion", [tmp_path / "images"], settings, SuggestOptions(**options))

    return run_suggest


def draw_gradient(folder: Path, name: str, seed: int, brightness: int) -> Path:
    """An image with texture of its own, whose brightest pixels have this value."""
    rng = np.random.default_rng(seed)
    pixels = np.asarray(Image.fromarray(rng.integers(0, 90, (12, 16), np.uint8)).resize((160, 96), Image.Resampling.NEAREST))
    pixels = pixels.copy()
    pixels[20:52, 40:90] = brightness
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    Image.fromarray(np.stack([pixels] * 3, 2)).save(path)
    return path


def names(result: SuggestResult) -> list[str]:
    return [suggestion.source.path.name for suggestion in result.suggestions]


def test_suggest_prefers_images_near_the_threshold(run, tmp_path):
    for i, brightness in enumerate((100, 120, 140, 200, 205, 240, 250, 255)):
        draw_gradient(tmp_path / "images", f"{brightness}.png", i, brightness)
    result = run(count=2, novelty=0.0, diversity=0.0)  # the threshold is 204
    assert set(names(result)) == {"200.png", "205.png"}
    first = result.suggestions[names(result).index("205.png")]
    assert first.decision == "anomalous"
    assert first.reason == "near the threshold: score 0.8039, threshold 0.8"
    assert (result.candidates, result.n_known, result.model) == (8, 0, "models:/line/3")


def test_suggest_prefers_images_unlike_the_training_images(run, tmp_path):
    train = tuple(draw_gradient(tmp_path / "train", f"{i}.png", i, 100) for i in range(6))
    for i in range(5):
        draw_gradient(tmp_path / "images", f"{i}.png", 100 + i, 100)
    draw_image(tmp_path / "images", "other.png", (0, 0, 160, 96))
    result = run(KnownImages(train, train, ("dent",)), count=1, near_threshold=0.0, novelty=1.0)
    assert (result.n_known, result.defects) == (6, ("dent",))
    assert result.suggestions[0].novelty >= 0.9
    assert result.suggestions[0].reason.endswith("unlike the training images")


def test_suggest_same_arguments_give_the_same_result(run, tmp_path):
    for i in range(8):
        draw_gradient(tmp_path / "images", f"{i}.png", i, 120 + 15 * i)
    assert run(count=5).to_dict() == run(count=5).to_dict()


def test_suggest_regions_only_of_images_that_are_decided_to_be_anomalous(run, tmp_path):
    draw_image(tmp_path / "images", "a.png", (40, 24, 80, 48))
    draw_image(tmp_path / "images", "b.png", (40, 24, 80, 48), brightness=190)
    by_name = {item.source.path.name: item for item in run().suggestions}
    assert [tuple(region) for region in by_name["a.png"].regions] == [(40, 24, 80, 48)]
    assert (by_name["b.png"].decision, by_name["b.png"].regions) == ("normal", ())
    assert by_name["a.png"].size == (160, 96)


def test_suggest_detector_without_anomaly_maps_has_no_regions(run, tmp_path):
    draw_image(tmp_path / "images", "a.png", (40, 24, 80, 48))
    assert run(gives_map=False).suggestions[0].regions == ()


def test_suggest_leaves_out_labelled_images_and_copies(run, tmp_path):
    labelled = draw_gradient(tmp_path / "data", "l.png", 1, 250)
    shutil.copy(labelled, draw_gradient(tmp_path / "images", "same.png", 2, 100))
    Image.open(labelled).save(tmp_path / "images" / "again.jpg", quality=80)
    new = draw_gradient(tmp_path / "images", "new.png", 3, 240)
    shutil.copy(new, tmp_path / "images" / "zz-copy.png")
    result = run(KnownImages((labelled,), (labelled,)))
    assert names(result) == ["new.png"]
    left_out = {item.source.path.name: (item.of, item.is_labelled) for item in result.duplicates}
    assert left_out == {
        "same.png": (str(labelled), True),
        "again.jpg": (str(labelled), True),
        "zz-copy.png": (str(new), False),
    }


def test_suggest_when_all_are_labelled_is_refused(run, tmp_path):
    labelled = draw_gradient(tmp_path / "images", "l.png", 1, 250)
    with pytest.raises(DataError, match=r"none of the 1 images is left to label: 1 repeat images .*give images that are not"):
        run(KnownImages((labelled,), (labelled,)))


def test_suggest_labelled_image_that_is_gone_is_ignored(run, tmp_path):
    draw_gradient(tmp_path / "images", "a.png", 1, 250)
    gone = (tmp_path / "gone.png",)
    assert names(run(KnownImages(gone, gone))) == ["a.png"]


def test_suggest_images_that_fail_are_listed_and_the_others_chosen(run, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    draw_image(tmp_path / "images", "white.png", (0, 0, 160, 96))
    draw_image(tmp_path / "images", "dark.png", brightness=99)
    result = run(method=NotFinite(math.nan))
    assert names(result) == ["dark.png"]
    assert sorted(failure.source.path.name for failure in result.failures) == ["broken.png", "white.png"]


def test_suggest_when_none_can_be_read_is_refused(run, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"none of the 1 images can be scored, first: .*broken\.png"):
        run()


def test_suggest_result_is_json(run, tmp_path):
    draw_image(tmp_path / "images", "a.png", (40, 24, 80, 48))
    document = json.loads(json.dumps(run().to_dict(), allow_nan=False))
    assert document["suggestions"][0]["regions"] == [[40, 24, 80, 48]]
    assert document["suggestions"][0]["image"] == str(tmp_path / "images" / "a.png")


def test_suggest_does_not_need_a_run(settings, tmp_path, caplog, monkeypatch):
    from adjobs.labelling import model

    monkeypatch.setattr(model.Detector, "load", lambda folder, device: brightness_detector())
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector" / "detector.json").write_text("{}")
    draw_image(tmp_path / "images", "a.png")
    with caplog.at_level(logging.WARNING):
        assert len(suggest(tmp_path / "detector", [tmp_path / "images"], settings).suggestions) == 1
    assert "its run is not known; images are compared with each other alone" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count: got 0"),
        ({"novelty": -1.0}, "novelty: got -1"),
        ({"near_threshold": math.nan}, "near-threshold: got"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(JobError, match=message):
        SuggestOptions(**options)
