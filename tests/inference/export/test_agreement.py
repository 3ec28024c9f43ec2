"""What counts as the same: scores, maps and decisions of an exported model beside those of the detector."""

from __future__ import annotations

import numpy as np
import pytest

from adjobs.data.images import stretch
from adjobs.errors import DataError
from adjobs.evaluation.predictions import PredictionArrays, ScoreError
from adjobs.inference.engine import TOLERANCE
from adjobs.inference.export.agreement import DisagreementError, compare, speed_of
from tests.helpers.detectors import brightness_detector, draw_image

WHITE = (0, 0, 160, 96)


class Shifted:
    """Predicts as an engine does, with other scores and maps."""

    def __init__(self, engine, score=0.0, maps=0.0):
        self._engine, self._score, self._maps = engine, score, maps

    def predict(self, images):
        predicted = self._engine.predict(images)
        return PredictionArrays(predicted.score + self._score, predicted.anomaly_maps + np.float32(self._maps), {})


class Stretching:
    """Takes images of any size, as the resize inside a model does."""

    def __init__(self, engine, detector):
        self._engine, self._detector = engine, detector

    def predict(self, images):
        image = self._detector.read_image(images[0])
        return self._engine.predict(stretch(image.image, self._detector.manifest.image_size)[None])


@pytest.fixture
def paths(tmp_path):
    return [draw_image(tmp_path, f"{level}.png", WHITE, brightness=level) for level in (0, 64, 128, 255)]


def agreement(detector, fixed, paths, free=None):
    return compare(detector, fixed, Stretching(free or fixed, detector), paths)


def test_compare_equal_engines_differ_nowhere(paths):
    detector = brightness_detector()
    result = agreement(detector, detector.engine, paths)
    assert result.images == 4
    assert result.model_dump(exclude={"images"}) == {
        "score_difference": 0,
        "map_difference": 0,
        "resized_score_difference": 0,
        "changed_decisions": 0,
    }


def test_compare_says_how_much_they_differ(paths):
    detector = brightness_detector()
    result = agreement(detector, Shifted(detector.engine, score=1e-4, maps=2e-4), paths)
    assert result.score_difference == pytest.approx(1e-4, rel=1e-3)
    assert result.map_difference == pytest.approx(2e-4, rel=1e-2)
    assert result.changed_decisions == 0


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        ({"score": 2 * TOLERANCE}, r"0\.png: at the detector's size its score is 0\.002, by PyTorch 0"),
        ({"score": np.nan}, r"0\.png \(by the exported model\).*NaN"),
        (
            {"maps": 2 * TOLERANCE},
            r"0\.png: at .* size pixel \(\d+, \d+\) of its anomaly map is 0\.002, by PyTorch 0",
        ),
    ],
)
def test_compare_too_large_a_difference_is_named(paths, shift, message):
    detector = brightness_detector()
    with pytest.raises((DisagreementError, ScoreError), match=message):
        agreement(detector, Shifted(detector.engine, **shift), paths)


def test_compare_images_at_their_own_size_count_too(paths):
    detector = brightness_detector()
    with pytest.raises(DisagreementError, match="at its own size, resized by the model its score is"):
        agreement(detector, detector.engine, paths, free=Shifted(detector.engine, score=2 * TOLERANCE))


def test_compare_another_decision_is_refused_away_from_the_threshold_only(paths):
    score = brightness_detector()(paths[2]).score
    on_it = brightness_detector(image=score + 1e-6)
    assert agreement(on_it, Shifted(on_it.engine, score=2e-6), paths).changed_decisions == 1
    beside_it = brightness_detector(image=score + 1e-4)
    with pytest.raises(DisagreementError, match=r"128\.png: at the detector's size it is decided differently"):
        agreement(beside_it, Shifted(beside_it.engine, score=2e-4), paths)


def test_compare_image_that_cannot_be_read_is_named(paths, tmp_path):
    detector = brightness_detector()
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.png"):
        agreement(detector, detector.engine, [*paths, tmp_path / "bad.png"])


def test_speed_of_is_that_of_both():
    detector = brightness_detector()
    speed = speed_of(detector, detector.engine)
    assert speed.torch > 0
    assert speed.exported > 0
