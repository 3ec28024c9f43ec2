"""What the places of images are best compared with, and the parameter that depends on it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adjobs.config.resolve import resolve
from adjobs.data.places import MIN_IMAGES
from adjobs.errors import JobError
from adjobs.jobs import places as module
from adjobs.jobs.announce import announce_job
from adjobs.jobs.data import prepare_data
from adjobs.jobs.places import resolve_places
from adjobs.jobs.prepare import prepare
from tests.helpers.drawing import save
from tests.helpers.jobs import local_settings, resolved_job


def draw(root, count, *, shifts, size=64):
    """Normal images: a striped part, shifted by up to so many pixels and turned by quarters; and four defective ones."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    for i in range(count + 4):
        image = np.where((abs(x - 32) < 18) & (abs(y - 32) < 12), np.where((x // 3) % 3 == 0, 90, 180), 25)
        if shifts:
            image = np.roll(np.rot90(image, rng.integers(4)), rng.integers(-shifts, shifts + 1, 2), (0, 1))
        pixels = (image + rng.normal(0, 5, image.shape)).clip(0, 255).astype(np.uint8)
        name = f"good/{i:03}.png" if i < count else f"bad/{i:03}.png"
        save(root / name, np.repeat(pixels[..., None], 3, 2))
    return root


@pytest.mark.parametrize(("shifts", "distance", "phrase"), [(0, "mahalanobis", "the same place"), (12, "nearest", "any place")])
def test_prepare_chooses_by_the_normal_training_images(shifts, distance, phrase, tmp_path, caplog):
    settings = local_settings(tmp_path)
    job = resolved_job(draw(tmp_path / "data", 40, shifts=shifts))
    assert job.params["distance"] == "auto"
    prepared = prepare(job, settings)
    assert prepared.job.params["distance"] == distance
    assert prepared.places is not None
    assert prepared.places.images == 24  # those of the training split
    with caplog.at_level("INFO", "adjobs"):
        announce_job(prepared)
    assert f"places: best compared with {phrase} of normal images" in caplog.text
    assert f"so params.distance={distance}" in caplog.text
    assert prepare(prepared.job, settings).job == prepared.job  # as a resumed run finds it


@pytest.mark.parametrize(("shifts", "score"), [(0, "combined"), (12, "network")])
def test_resolve_places_chooses_what_scores_for_slsg(shifts, score, tmp_path):
    settings = local_settings(tmp_path)
    job = resolve({"method": "slsg", "data": {"uri": str(draw(tmp_path / "data", 40, shifts=shifts))}})
    changed, places = resolve_places(job, prepare_data(job, settings), settings.cache)
    assert changed.params["score"] == score
    assert places is not None


def test_resolve_places_is_kept_in_the_cache(tmp_path, monkeypatch):
    settings = local_settings(tmp_path)
    job = resolved_job(draw(tmp_path / "data", 40, shifts=0))
    data = prepare_data(job, settings)
    first = resolve_places(job, data, settings.cache)
    (kept,) = (settings.cache / "places").iterdir()
    monkeypatch.setattr(module, "_compare", lambda paths, reading: pytest.fail("compared again"))
    assert resolve_places(job, data, settings.cache) == first
    monkeypatch.undo()
    for damaged in ("{", "[1]", json.dumps({"by_place": 1})):
        kept.write_text(damaged)
        assert resolve_places(job, data, settings.cache) == first


def test_resolve_places_what_the_job_names_stays_and_nothing_is_read(tmp_path, monkeypatch):
    settings = local_settings(tmp_path)
    root = draw(tmp_path / "data", 40, shifts=12)
    monkeypatch.setattr(module, "_compare", lambda paths, reading: pytest.fail("compared"))
    named = [("cdo", {"distance": "euclidean"}), ("cdo", {"distance": "mahalanobis"}), ("slsg", {"score": "combined"})]
    for method, params in (*named, ("dpae", {})):
        job = resolve({"method": method, "data": {"uri": str(root)}, "params": params})
        assert resolve_places(job, prepare_data(job, settings), settings.cache) == (job, None)
    inpainting = resolve({"method": "slsg", "data": {"uri": str(root)}, "params": {"pretrain": "gpt"}})
    settled, places = resolve_places(inpainting, prepare_data(inpainting, settings), settings.cache)
    assert (settled.params["score"], places) == ("network", None)


def test_resolve_places_too_few_images_to_compare(tmp_path):
    settings = local_settings(tmp_path)
    job = resolved_job(draw(tmp_path / "data", MIN_IMAGES, shifts=12))  # 60 % of them are in the training split
    changed, places = resolve_places(job, prepare_data(job, settings), settings.cache)
    assert (changed.params["distance"], places) == ("mahalanobis", None)


def test_resolve_unknown_distance_is_refused():
    with pytest.raises(JobError, match=r"params\.distance: got 'pose'"):
        resolve({"method": "cdo", "data": {"uri": "x"}, "params": {"distance": "pose"}})
