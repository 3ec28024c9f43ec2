from __future__ import annotations

import json
import math

import pytest

from adjobs.errors import JobError
from adjobs.labelling.images import KnownImages
from adjobs.labelling.suggest import SuggestOptions
from tests.helpers.detectors import draw_image
from tests.helpers.labelling import draw_textured, suggested_names


def test_suggest_prefers_images_near_the_threshold(run, tmp_path):
    for i, brightness in enumerate((100, 120, 140, 200, 205, 240, 250, 255)):
        draw_textured(tmp_path / "images", f"{brightness}.png", i, brightness)
    result = run(count=2, novelty=0.0, diversity=0.0)  # the threshold is 204
    assert set(suggested_names(result)) == {"200.png", "205.png"}
    first = result.suggestions[suggested_names(result).index("205.png")]
    assert first.decision == "anomalous"
    assert first.reason == "near the threshold: score 0.8039, threshold 0.8"
    assert (result.candidates, result.n_known, result.model) == (8, 0, "models:/line/3")


def test_suggest_prefers_images_unlike_the_training_images(run, tmp_path):
    train = tuple(draw_textured(tmp_path / "train", f"{i}.png", i, 100) for i in range(6))
    for i in range(5):
        draw_textured(tmp_path / "images", f"{i}.png", 100 + i, 100)
    draw_image(tmp_path / "images", "other.png", (0, 0, 160, 96))
    result = run(KnownImages(train, train, ("dent",)), count=1, near_threshold=0.0, novelty=1.0)
    assert (result.n_known, result.defects) == (6, ("dent",))
    assert result.suggestions[0].novelty >= 0.9
    assert result.suggestions[0].reason.endswith("unlike the training images")


def test_suggest_same_arguments_give_the_same_result(run, tmp_path):
    for i in range(8):
        draw_textured(tmp_path / "images", f"{i}.png", i, 120 + 15 * i)
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


def test_suggest_result_is_json(run, tmp_path):
    draw_image(tmp_path / "images", "a.png", (40, 24, 80, 48))
    document = json.loads(json.dumps(run().to_dict(), allow_nan=False))
    assert document["suggestions"][0]["regions"] == [[40, 24, 80, 48]]
    assert document["suggestions"][0]["image"] == str(tmp_path / "images" / "a.png")


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
