"""What is answered to requests with images: as the library predicts them, or a refusal in one line."""

from __future__ import annotations

import base64
import json
import socket
import struct
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
import requests
from PIL import Image

from adjobs.inference.detector import Detector
from adjobs.serving.limits import Limits
from tests.helpers.detectors import NotFinite, brightness_detector
from tests.helpers.images import encode_png, encode_tiff, png_chunk, write_huge_png
from tests.helpers.serving import RunningDetector, draw_png, encode

SMALL = Limits(max_body=400_000, max_images=4, max_pixels=200_000, max_queue=8)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return brightness_detector(pixel=0.6)


@pytest.fixture(scope="module")
def server(detector) -> Iterator[RunningDetector]:
    with RunningDetector(lambda model: detector, limits=SMALL) as server:
        yield server.load()


def drawn(mode: str = "RGB", low: int = 30, high: int = 200) -> Image.Image:
    pixels = np.full((60, 100, 3), low, np.uint8)
    pixels[20:40, 10:40] = high
    return Image.fromarray(pixels).convert(mode)


def deep(kind: type = np.uint16, high: int = 50_000) -> np.ndarray:
    pixels = np.full((60, 100), 2000, kind)
    pixels[20:40, 10:40] = high
    return pixels


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(drawn(), "JPEG", quality=95, exif=exif)


KINDS = {
    "png": encode(drawn(), "PNG"),
    "grey": encode(drawn("L"), "PNG"),
    "one bit": encode(drawn("1"), "PNG"),
    "palette": encode(drawn("P"), "PNG"),
    "palette with transparency": encode(drawn("P"), "PNG", transparency=3),
    "with alpha": encode(drawn("RGBA"), "PNG"),
    "cmyk": encode(drawn("CMYK"), "JPEG", quality=95),
    "rotated by exif": rotated(),
    "16 bits": encode_png(deep()),
    "16 bits in colour": encode_png(np.repeat(deep()[..., None], 3, 2)),
    "tiff of 16 bits": encode_tiff(deep()),
    "tiff of two pages": encode_tiff(np.asarray(drawn("L").resize((10, 6))), np.asarray(drawn("L"))),
    "bmp": encode(drawn(), "BMP"),
    "webp": encode(drawn(), "WEBP", quality=90),
    "animated png": encode(drawn(), "PNG", save_all=True, append_images=[drawn(high=255)]),
    "animated webp": encode(drawn(), "WEBP", save_all=True, append_images=[drawn(high=255)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_predict_each_kind_of_image_is_as_in_the_library(server, detector, kind):
    expected = detector(KINDS[kind])
    (actual,) = server.predict(KINDS[kind], anomaly_map="true")
    assert actual["score"] == expected.score
    assert actual["regions"] == [list(region) for region in expected.regions]
    assert (actual["decision"], actual["warning"]) == (expected.decision, expected.warning)
    assert (actual["threshold"], actual["defect_area"]) == (expected.threshold, expected.defect_area)
    size = (60, 100) if kind == "rotated by exif" else (100, 60)
    assert (actual["width"], actual["height"]) == size
    anomaly_map = actual["anomaly_map"]
    pixels = np.asarray(Image.open(BytesIO(base64.b64decode(anomaly_map["png"]))))
    assert pixels.dtype == np.uint16
    values = anomaly_map["low"] + pixels / 65535 * (anomaly_map["high"] - anomaly_map["low"])
    assert np.abs(values - expected.anomaly_map).max() <= (anomaly_map["high"] - anomaly_map["low"]) / 65535


def test_predict_several_images_in_their_order_by_one_model(server):
    answer = server.post(*(draw_png(brightness) for brightness in (255, 50, 230)))
    predictions = answer.json()["predictions"]
    assert [prediction["decision"] for prediction in predictions] == ["anomalous", "normal", "anomalous"]
    assert predictions[0]["regions"] == [[40, 31, 80, 48]]
    assert predictions[1]["regions"] == []
    assert answer.json()["model"] == {
        "name": "tiles",
        "version": 1,
        "run_id": None,
        "method": "cdo",
        "image_size": 64,
        "threshold": 0.8,
        "pixel_threshold": 0.6,
    }


def test_predict_json_is_as_the_form(server):
    images = [draw_png(255), draw_png(60)]
    texts = [base64.b64encode(image).decode() for image in images]
    by_json = server.post_json({"images": texts, "overlay": True}).json()
    assert by_json == server.post(*images, data={"overlay": "true"}).json()
    overlay = Image.open(BytesIO(base64.b64decode(by_json["predictions"][0]["overlay"])))
    assert overlay.size == (768, 230)


def test_predict_body_in_chunks_without_a_length(server):
    document = json.dumps({"images": [base64.b64encode(draw_png()).decode()]}).encode()
    headers = {"content-type": "application/json"}
    answer = requests.post(f"{server.url}/v1/predict", data=iter([document[:100], document[100:]]), headers=headers, timeout=20)
    assert answer.status_code == 200
    body = iter([b"x" * 100_000] * 5)
    assert requests.post(f"{server.url}/v1/predict", data=body, headers=headers, timeout=20).status_code == 413


def animated_gif() -> bytes:
    return encode(drawn(), "GIF", save_all=True, append_images=[drawn(high=250)])


REFUSED = {
    "text": (b"no image", 422, "is not a supported image"),
    "nothing": (b"", 422, "is not a supported image"),
    "truncated png": (KINDS["png"][:150], 422, "cannot be decoded"),
    "truncated jpeg": (KINDS["cmyk"][:600], 422, "cannot be decoded"),
    "damaged png": (KINDS["png"][:60] + b"\0\0\0\0" + KINDS["png"][64:], 422, "cannot be decoded"),
    "gif": (animated_gif(), 422, "is not a supported image"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', 422, "is not a supported image"),
    "postscript": (b"%!PS-Adobe-3.0\n(/etc/passwd) run", 422, "is not a supported image"),
    "float": (encode_tiff(deep(np.float32)), 422, "floating-point pixels"),
    "too many pixels": (encode(Image.new("L", (500, 401)), "PNG"), 413, "has 500 x 401 pixels, the maximum is 200,000"),
    "many chunks": (b"\x89PNG\r\n\x1a\n" + png_chunk(b"teXt", b"") * 20_000, 413, "has more than 10,000 chunks"),
    "many pages": (encode_tiff(*[np.zeros((2, 2), np.uint8)] * 70), 413, "has more than 64 pages"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_predict_what_is_no_usable_image_is_one_line_with_its_index(server, kind):
    content, status, message = REFUSED[kind]
    answer = server.post(draw_png(), content)
    assert (answer.status_code, answer.json()["index"]) == (status, 1), answer.text
    assert answer.json()["error"].startswith("image 1: ")
    assert message in answer.json()["error"]
    assert not any(text in answer.text for text in ("Traceback", "/tmp", ".py", "0x", "\\n"))


def test_predict_decompression_bomb_is_refused_by_its_header(server, tmp_path):
    bomb = write_huge_png(tmp_path / "huge.png", 20_000).read_bytes()
    answer = server.post(bomb)
    assert answer.status_code == 413
    assert "pixels" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/etc/hostname", "../../etc/passwd", "file:///etc/passwd", "cell.png"])
def test_predict_paths_are_never_opened(server, path):
    assert "is not base64" in server.post_json({"images": [path]}).json()["error"]
    form = requests.post(f"{server.url}/v1/predict", files={"image": (None, path)}, timeout=20)
    assert form.status_code == 422
    assert "field 'image': allowed are 'image' with a file" in form.json()["error"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "images: Field required"),
        ({"images": []}, "images: List should have at least 1 item"),
        ({"images": "x"}, "images: Input should be a valid array"),
        ({"images": [1]}, "images.0: Input should be a valid string"),
        ({"images": ["eA=="], "map": True}, "map: Extra inputs are not permitted"),
        ({"images": ["eA=="], "overlay": "yes"}, "overlay: Input should be a valid boolean"),
        ([], "the request: Input should be an object"),
    ],
)
def test_predict_json_that_is_something_else_is_one_line(server, document, message):
    answer = server.post_json(document)
    assert (answer.status_code, "\n" in answer.json()["error"]) == (422, False)
    assert message in answer.json()["error"]


CUT_FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nab\r\n--x'


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b"\xff\xfe", "application/json", 422),
        (b"image", "text/plain", 415),
        (b"image", "", 415),
        (b"image", "multipart/form-data", 400),
        (b"image", "multipart/form-data; boundary=x", 400),
        (b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nab', "multipart/form-data; boundary=x", 400),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\nab\r\n--x--", "multipart/form-data; boundary=x", 400),
        (b'--x\r\nContent-Disposition: form-data; name="n"\r\n\r\n1\r\n--x--', "multipart/form-data; boundary=x", 422),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 422),
        (b"--x--\r\n", "multipart/form-data; boundary=x; charset=none", 422),
        (CUT_FORM, "multipart/form-data; boundary=x", 400),
    ],
)
def test_predict_malformed_request_is_refused_without_an_internal_error(server, body, kind, status):
    answer = requests.post(f"{server.url}/v1/predict", data=body, headers={"content-type": kind}, timeout=20)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}


def test_predict_compressed_body_is_refused(server):
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert requests.post(f"{server.url}/v1/predict", data=b"x", headers=headers, timeout=20).status_code == 415


def test_predict_beyond_the_limits_is_413(server):
    assert server.post(*[draw_png()] * 4).status_code == 200
    assert "the maximum is 4" in server.post_json({"images": ["eA=="] * 5}).json()["error"]
    assert server.post(*[draw_png()] * 5).status_code == 413
    assert server.post(b"x" * 500_000).status_code == 413
    assert server.post_json({"images": ["eA=="], "x": [0] * 3_000_000}).status_code == 413


def test_predict_length_that_is_none_is_no_internal_error(server):
    address = server.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=10) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n")
        assert connection.recv(1000).split(b" ")[1] in (b"400", b"413")


def test_predict_json_of_many_values_is_refused_before_it_is_read():
    with RunningDetector(limits=Limits()) as server:
        server.load()
        answer = server.post_json({"images": ["eA=="], "x": [0] * 3_000_000})
        assert answer.status_code == 413
        assert "more than 2,000,000 values" in answer.json()["error"]


def test_predict_score_that_is_not_finite_harms_no_other_request():
    detector = brightness_detector(method=NotFinite(float("nan")))
    with RunningDetector(lambda model: detector) as server:
        server.load()
        answer = server.post(draw_png(200), draw_png(255))
        assert (answer.status_code, answer.json()["index"]) == (422, 1)
        assert "NaN or infinite" in answer.json()["error"]
        assert server.predict(draw_png(200))[0]["decision"] == "normal"


def test_unknown_path_and_method_are_one_line(server):
    assert server.get("/nothing").json() == {"error": "Not Found"}
    assert (server.get("/v1/predict").status_code, server.get("/v1/predict").json()) == (405, {"error": "Method Not Allowed"})


def test_jpeg_of_many_markers_is_refused(server):
    content = b"\xff\xd8" + struct.pack(">HH", 0xFFE0, 2) * 20_000
    assert "has more than 10,000 markers" in server.post(content).json()["error"]
