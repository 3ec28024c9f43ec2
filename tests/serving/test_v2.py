"""The protocol V2, as its public client and others speak it."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
import requests
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from adjobs.inference.detector import Detector
from adjobs.serving.limits import Limits
from adjobs.web.key_file import digest
from tests.helpers.detectors import brightness_detector
from tests.helpers.serving import HeldDetector, RunningDetector, draw_png

IMAGES = [draw_png(255), draw_png(60), draw_png(230, size=(50, 40))]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return brightness_detector()


@pytest.fixture(scope="module")
def server(detector) -> Iterator[RunningDetector]:
    with RunningDetector(lambda model: detector, limits=Limits(max_images=4, max_body=1_000_000)) as server:
        yield server.load()


@pytest.fixture(scope="module")
def client(server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        yield client


def files_input(*images: bytes) -> triton.InferInput:
    tensor = triton.InferInput("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, object))
    return tensor


def array_input(array: np.ndarray, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput("pixels", list(array.shape), "UINT8")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def rgb(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(image)).convert("RGB"))


def test_client_finds_server_and_model(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiles")
    assert client.is_model_ready("tiles", "1")
    assert not client.is_model_ready("tiles", "2")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("tiles")
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    ]
    assert [output["name"] for output in metadata["outputs"]] == ["score", "decision", "threshold", "regions", "anomaly_map"]
    assert metadata["outputs"][-1]["shape"] == [-1, 64, 64]


def test_files_in_binary_are_predicted_as_in_the_library(client, detector):
    result = client.infer("tiles", [files_input(*IMAGES)], request_id="shift-3")
    expected = [detector(image) for image in IMAGES]
    assert result.as_numpy("score").tolist() == [prediction.score for prediction in expected]
    assert result.as_numpy("decision").tolist() == [prediction.decision.encode() for prediction in expected]
    assert result.as_numpy("threshold").tolist() == [0.8] * 3
    regions = [json.loads(text) for text in result.as_numpy("regions")]
    assert regions == [[list(region) for region in prediction.regions] for prediction in expected]
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == ("tiles", "1", "shift-3")


@pytest.mark.parametrize("binary", [True, False])
def test_arrays_are_predicted_as_in_the_library(client, detector, binary):
    array = rgb(draw_png(200, size=(40, 30)))
    expected = detector(array)
    single = client.infer("tiles", [array_input(array, binary)])
    assert single.as_numpy("score").tolist() == [expected.score]
    stack = np.stack([array, array // 2])
    both = client.infer("tiles", [array_input(stack, binary)], model_version="1")
    assert both.as_numpy("score").tolist() == [expected.score, detector(array // 2).score]


def test_outputs_that_are_named_are_answered_in_the_form_that_is_wanted(client, detector):
    outputs = [triton.InferRequestedOutput("anomaly_map"), triton.InferRequestedOutput("score", binary_data=False)]
    result = client.infer("tiles", [files_input(*IMAGES[:2])], outputs=outputs)
    expected = np.stack([detector(image).anomaly_map for image in IMAGES[:2]])
    assert np.array_equal(result.as_numpy("anomaly_map"), expected)
    assert result.as_numpy("decision") is None
    in_json = [triton.InferRequestedOutput("anomaly_map", binary_data=False)]
    plain = client.infer("tiles", [files_input(IMAGES[0])], outputs=in_json)
    assert np.array_equal(plain.as_numpy("anomaly_map"), expected[:1])


def test_json_alone_is_answered_in_json(server, detector):
    data = [base64.b64encode(image).decode() for image in IMAGES]
    document = {"inputs": [{"name": "image", "shape": [3, 1], "datatype": "BYTES", "data": [[text] for text in data]}]}
    answer = server.post_json(document, "/v2/models/tiles/infer").json()
    by_name = {output["name"]: output for output in answer["outputs"]}
    assert by_name["score"] == {
        "name": "score",
        "datatype": "FP64",
        "shape": [3],
        "data": [detector(image).score for image in IMAGES],
    }
    assert by_name["decision"]["data"] == ["anomalous", "normal", "anomalous"]


def test_refusals_reach_the_client_in_one_line(client):
    with pytest.raises(InferenceServerException, match=r"\[404\] unknown model 'other'; this server has tiles"):
        client.infer("other", [files_input(IMAGES[0])])
    with pytest.raises(InferenceServerException, match=r"\[404\] version '7' is not in force; in force is 1"):
        client.infer("tiles", [files_input(IMAGES[0])], model_version="7")
    with pytest.raises(InferenceServerException, match=r"\[422\] image 1: is not a supported image"):
        client.infer("tiles", [files_input(IMAGES[0], b"text")])
    with pytest.raises(InferenceServerException, match=r"\[413\] 5 images, the maximum is 4"):
        client.infer("tiles", [files_input(*IMAGES[:1] * 5)])
    with pytest.raises(InferenceServerException, match=r"\[400\] output 'mask': available are score, decision"):
        client.infer("tiles", [files_input(IMAGES[0])], outputs=[triton.InferRequestedOutput("mask")])
    with pytest.raises(InferenceServerException, match=r"\[400\] input pixels: shape \[4, 4\] must be"):
        client.infer("tiles", [array_input(np.zeros((4, 4), np.uint8))])
    with pytest.raises(InferenceServerException, match=r"\[415\] compressed requests"):
        client.infer("tiles", [files_input(IMAGES[0])], request_compression_algorithm="gzip")


def test_key_is_sent_as_a_header():
    with RunningDetector(keys=[digest("k" * 40)]) as server:
        server.load()
        with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
            assert client.is_server_ready()
            result = client.infer("tiles", [files_input(IMAGES[0])], headers={"Authorization": f"Bearer {'k' * 40}"})
            assert result.as_numpy("decision").tolist() == [b"anomalous"]
            with pytest.raises(InferenceServerException, match=r"\[401\]"):
                client.infer("tiles", [files_input(IMAGES[0])])


def test_method_without_anomaly_maps_has_no_such_output():
    with RunningDetector(lambda model: HeldDetector(brightness_detector(gives_map=False, pixel=None))) as server:
        server.load()
        outputs = server.get("/v2/models/tiles").json()["outputs"]
        assert [output["name"] for output in outputs] == ["score", "decision", "threshold", "regions"]


def tensor(**changes: object) -> dict[str, object]:
    return {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["eA=="], **changes}


PIXELS = {"name": "pixels", "datatype": "UINT8", "shape": [1, 2, 3], "data": [0, 1, 2, 3, 4, 255]}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "inputs: List should have at least 1 item"),
        ([tensor(), tensor()], "inputs: List should have at most 1 item"),
        ([tensor(datatype="FP32")], "inputs.0.datatype: Input should be 'BYTES' or 'UINT8'"),
        ([tensor(name="pixels")], "allowed are image of BYTES and pixels of UINT8"),
        ([tensor(shape=[2])], "needs 2 texts in base64"),
        ([tensor(shape=[0])], "inputs.0.shape.0: Input should be greater than or equal to 1"),
        ([tensor(shape=[10**18, 10**18])], "images, the maximum is 4"),
        ([tensor(data=[1])], "needs 1 texts in base64"),
        ([tensor(data=["/etc/passwd"])], "image 0: is not base64"),
        ([tensor(data=None)], "needs either data or the parameter"),
        ([tensor(parameters={"binary_data_size": 3})], "0 bytes follow the header"),
        ([{**PIXELS, "data": [0, 1, 2, 3, 4, 256]}], "needs 6 whole numbers from 0 to 255"),
        ([{**PIXELS, "data": [0, 1, 2, 3, 4, -1]}], "needs 6 whole numbers from 0 to 255"),
        ([{**PIXELS, "data": [0.5] * 6}], "needs 6 whole numbers from 0 to 255"),
        ([{**PIXELS, "data": [True] * 6}], "needs 6 whole numbers from 0 to 255"),
        ([{**PIXELS, "data": [[1, 2], 3]}], "needs 6 whole numbers from 0 to 255"),
        ([{**PIXELS, "data": []}], "needs 6 whole numbers from 0 to 255"),
        ([{**PIXELS, "data": [10**30] * 6}], "needs 6 whole numbers from 0 to 255"),
        ([{**PIXELS, "shape": [10**9, 10**9, 3]}], "whole numbers from 0 to 255"),
        ([{**PIXELS, "shape": [1, 2, 1]}], "must be [height, width, 3]"),
    ],
)
def test_malformed_tensors_are_one_line(server, inputs, message):
    answer = server.post_json({"inputs": inputs}, "/v2/models/tiles/infer")
    assert answer.status_code in (400, 413, 422), answer.text
    assert message in answer.json()["error"]


def pack(*files: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(file)) + file for file in files)


@pytest.mark.parametrize(
    ("content", "shape", "stated", "message"),
    [
        (b"abc", [1], None, "end within a length"),
        (struct.pack("<I", 2**32 - 1) + b"abc", [1], None, "not the 1 files"),
        (pack(b"a", b"b"), [1], None, "not the 1 files"),
        (pack(b"a"), [2], None, "hold 1 files, its shape says 2"),
        (pack(b"a"), [1], 4, "binary_data_size is 4, 5 bytes follow the header"),
        (pack(b"a"), [1], -5, "binary_data_size is -5"),
        (pack(b"a"), [1], "5", "binary_data_size is '5'"),
    ],
)
def test_malformed_binary_data_are_one_line(server, content, shape, stated, message):
    size = len(content) if stated is None else stated
    head = json.dumps({"inputs": [tensor(shape=shape, data=None, parameters={"binary_data_size": size})]})
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = requests.post(f"{server.url}/v2/models/tiles/infer", data=head.encode() + content, headers=headers, timeout=20)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "99999999999999999999", "1000000", "²"])
def test_header_length_that_is_none_is_refused(server, length):
    headers = {"Inference-Header-Content-Length": length.encode()}
    answer = requests.post(f"{server.url}/v2/models/tiles/infer", data=b"{}", headers=headers, timeout=20)
    assert answer.status_code == 400
