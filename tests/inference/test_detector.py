"""A detector takes images in every form that users have, and gives typed predictions."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from adjobs.data.image_reading import ImageReading
from adjobs.errors import DataError, JobError
from adjobs.evaluation.predictions import ScoreError
from adjobs.inference.detector import ImagePrediction
from adjobs.inference.torch_detector import resolve_device
from tests.helpers.detectors import SIDE, NotFinite, brightness_detector, draw_image
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


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA", "PA", "I;16", "I;16B"])
def test_detector_pil_modes_of_the_same_colour_have_the_same_score(mode):
    """White: 255 in 8 bits, 65535 in 16, 1 in one bit; transparency is dropped."""
    white = bytes([255]) * (2 * 30 * 20)
    is_deep = mode.startswith("I;16")
    image = Image.frombytes(mode, (30, 20), white) if is_deep else Image.new("RGB", (30, 20), "white").convert(mode)
    assert brightness_detector()(image).score == pytest.approx(1.0)


def truncated(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content[: len(content) // 2]))


def closed() -> Image.Image:
    image = Image.open(io.BytesIO(encode(Image.new("L", (4, 4)), "PNG")))
    image.close()
    return image


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (truncated(encode(Image.effect_noise((64, 64), 50), "JPEG")), "image: cannot be decoded (image file is truncated"),
        (closed(), "image: cannot be decoded (Operation on closed image)"),
        (Image.new("RGB", (0, 5)), "image: has no pixels (size 0 x 5)"),
        (Image.new("F", (4, 4)), "image: has floating-point pixels"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000)), "image: has more than 178,956,970 pixels"),
        ([np.zeros((4, 4), np.uint8), 3], "image 1 of the list: got int; give a path"),
        ([[np.zeros((4, 4), np.uint8)]], "image 0 of the list: got list; give a path"),
        ((image for image in ()), "image: got generator; give a path"),
        ({"a.png": 1}, "image: got dict; give a path"),
        (None, "image: got NoneType; give a path"),
        (io.BytesIO(), "image: got BytesIO; give a path"),
        (b"", "image of 0 bytes: is not a supported image"),
        ("", ".: cannot be decoded (it is a folder, not a file)"),
        ("a\0b", "cannot be decoded (embedded null byte)"),
        ("x" * 300, "cannot be decoded (File name too long)"),
    ],
)
def test_detector_what_is_no_image_is_refused_in_one_line(image, message):
    with pytest.raises(DataError) as caught:
        brightness_detector()(image)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("score", [True, False])
def test_detector_score_or_map_that_is_not_finite_is_never_a_decision(score):
    detector = brightness_detector(method=NotFinite(float("nan"), score=score))
    dark, white = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert detector(dark).decision == "normal"
    with pytest.raises(ScoreError, match=r"^image 1 of the list: the score or the anomaly map is NaN or infinite"):
        detector([dark, white])


@pytest.mark.parametrize("device", ["gpu", "", "meta", "cuda:99", "CPU", None, "cpu:x"])
def test_resolve_device_unavailable_is_refused_in_one_line(device):
    with pytest.raises(JobError, match=r"^device: got .*, available here are auto, cpu") as caught:
        resolve_device(device)
    assert "\n" not in str(caught.value)


def test_resolve_device_cpu_and_auto():
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in ("cpu", "cuda")


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
