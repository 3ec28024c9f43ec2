"""A detector takes images in every form that users have, and gives typed predictions."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from adjobs.data.image_reading import ImageReading
from adjobs.errors import DataError
from adjobs.inference.detector import ImagePrediction
from tests.helpers.detectors import SIDE, brightness_detector, draw_image
from tests.helpers.drawing import save
from tests.helpers.images import encode_png

BOX = (20, 10, 60, 50)


def encode(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_detector_every_form_of_an_image_gives_the_same_prediction(tmp_path):
    path = draw_image(tmp_path, "a.png", BOX)
    image = Image.open(path)
    forms = [path, str(path), path.read_bytes(), image, np.asarray(image), encode(image, "BMP"), image.convert("RGBA")]
    predictions = brightness_detector()(forms)
    assert all(isinstance(prediction, ImagePrediction) for prediction in predictions)
    assert {(prediction.score, prediction.decision, prediction.regions) for prediction in predictions} == {
        (predictions[0].score, "anomalous", predictions[0].regions)
    }
    for prediction in predictions:
        np.testing.assert_array_equal(prediction.anomaly_map, predictions[0].anomaly_map)


def test_detector_one_image_gives_one_prediction_and_a_list_gives_a_list(tmp_path):
    path = draw_image(tmp_path, "a.png", BOX)
    one = brightness_detector()(path)
    assert isinstance(one, ImagePrediction)
    assert [prediction.score for prediction in brightness_detector()([path] * 40)] == [one.score] * 40
    assert brightness_detector()([]) == []


@pytest.mark.parametrize("shape", [(48, 80), (48, 80, 1), (48, 80, 3)])
def test_detector_grey_and_colour_arrays(shape):
    prediction = brightness_detector()(np.full(shape, 255, np.uint8))
    assert (prediction.decision, prediction.score) == ("anomalous", pytest.approx(1.0))
    assert prediction.anomaly_map.shape == (SIDE, SIDE)
    assert prediction.regions == ((0, 0, 80, 48),)
    assert prediction.defect_area == 1.0


def test_detector_upright_as_its_exif_says():
    pixels = np.full((40, 80, 3), 30, np.uint8)
    pixels[:, :20] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[274] = 6  # turned by a quarter
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    (region,) = brightness_detector()(buffer.getvalue()).regions
    assert (region.right - region.left, region.bottom - region.top) == pytest.approx((40, 20), abs=3)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_detector_other_arrays_are_refused_in_one_line(array):
    with pytest.raises(
        DataError, match=r"image: got an array of \w+ and shape \(.*\); give uint8 or uint16 of shape \(H, W\), or"
    ):
        brightness_detector()(array)


def test_detector_normal_image_has_a_defect_mask_but_no_regions(tmp_path):
    prediction = brightness_detector()(draw_image(tmp_path, "a.png", BOX, brightness=180))
    assert (prediction.decision, prediction.regions, prediction.region_mask) == ("normal", (), None)
    assert prediction.defect_mask.any()
    assert prediction.score < prediction.threshold


def test_detector_without_anomaly_maps(tmp_path):
    prediction = brightness_detector(gives_map=False)(draw_image(tmp_path, "a.png", BOX))
    assert (prediction.anomaly_map, prediction.defect_mask, prediction.defect_area) == (None, None, None)


def test_detector_reads_images_of_more_than_8_bits_as_its_training_images(tmp_path):
    reading = ImageReading(white=4095, depths="more than 8 bits")
    detector = brightness_detector(image_reading=reading)
    pixels = np.full((64, 64), 1600, np.uint16)
    path = save(tmp_path / "a.png", pixels)
    eight = detector(np.full((64, 64), 100, np.uint8))
    for image in (path, path.read_bytes(), Image.open(path), pixels, np.repeat(pixels[..., None], 3, axis=2)):
        prediction = detector(image)
        assert prediction.score == eight.score
        assert prediction.warning is None
    assert eight.warning.startswith("has 8 bits, those of the training data have more;")
    assert detector(pixels * 3).warning.startswith(
        "has values from 4800 to 4800, outside 0 to 4095, the range of the training data"
    )
    assert brightness_detector()(pixels).warning.startswith("has 16 bits, those of the training data have 8;")
    colour = Image.open(io.BytesIO(encode_png(np.zeros((8, 8, 3), np.uint16))))
    with pytest.raises(DataError, match=r"image: has colour of 16 bits, of which Pillow keeps 8; give the path of its file, or"):
        detector(colour)
