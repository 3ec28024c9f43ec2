"""The model that MLflow loads and serves."""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adjobs import methods
from adjobs.data.image_reading import ImageReading
from adjobs.errors import DataError
from adjobs.evaluation.predictions import ScoreError
from adjobs.inference.detector_folder import save
from adjobs.inference.torch_detector import TorchDetector
from adjobs.tracking.client import connect
from adjobs.tracking.experiments import experiment_id
from adjobs.tracking.layout import RunRef
from adjobs.tracking.logged_model import log_model
from adjobs.tracking.pyfunc_model import AnomalyModel
from tests.helpers.detectors import NotFinite, brightness_detector, draw_image, make_manifest
from tests.helpers.postgres import free_port
from tests.helpers.tiny import small_params, tiny_method


@pytest.fixture
def model() -> AnomalyModel:
    model = AnomalyModel()
    model.detector = brightness_detector()
    return model


def test_predict_bytes_and_base64_give_the_same_row(model, tmp_path):
    content = draw_image(tmp_path, "a.png", (0, 0, 160, 96)).read_bytes()
    rows = model.predict(None, pd.DataFrame({"image": [content, base64.encodebytes(content).decode()]}))
    assert rows["decision"].tolist() == [True, True]
    assert rows["score"].nunique() == 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "got NoneType; give"),
        (5, "got int; give"),
        ("é!", "not base64"),
        ("abc", "not base64"),
        ("a.png", "not base64"),
        (b"", "image of 0 bytes: is not"),
        (b"\xffx", "image of 2 bytes: is not"),
        (np.zeros((4, 4)), "give uint8 or uint16"),
        (Path("missing.png"), r"missing\.png: "),
    ],
)
def test_predict_what_is_not_an_image_is_refused_in_one_line(model, image, message):
    for model_input in (image, [image], pd.DataFrame({"image": pd.Series([image], dtype=object)})):
        with pytest.raises(DataError, match=message) as caught:
            model.predict(None, model_input)
        assert "\n" not in str(caught.value)
        assert json.loads(caught.value.serialize_as_json()) == {"error_code": "BAD_REQUEST", "message": str(caught.value)}
        assert caught.value.get_http_status_code() == 400


def test_predict_error_of_one_of_several_names_its_row(model, tmp_path):
    image = draw_image(tmp_path, "a.png", (0, 0, 160, 96))
    with pytest.raises(DataError, match=r"^row 1: image: got int"):
        model.predict(None, [image, 5])
    with pytest.raises(DataError, match=r"^data frame: its columns are a, b"):
        model.predict(None, pd.DataFrame({"a": [1], "b": [2]}))


def test_predict_score_that_is_not_finite_is_never_a_decision(model, tmp_path):
    model.detector = brightness_detector(method=NotFinite(math.nan))
    content = draw_image(tmp_path, "a.png", (0, 0, 160, 96)).read_bytes()
    with pytest.raises(ScoreError, match="is NaN or infinite") as caught:
        model.predict(None, pd.DataFrame({"image": [content]}))
    assert json.loads(caught.value.serialize_as_json()) == {"error_code": "INTERNAL_ERROR", "message": str(caught.value)}
    assert caught.value.get_http_status_code() == 500


@pytest.fixture(scope="module")
def detector_folder(tmp_path_factory) -> Path:
    """A small detector with anomaly maps, which has seen images of 8 and of 16 bits."""
    method = tiny_method("cdo")
    params = methods.load("cdo").config(**small_params("cdo")).model_dump(mode="json")
    folder = tmp_path_factory.mktemp("model") / "detector"
    save(folder, method, make_manifest("cdo", params, pixel=0.5, image_reading=ImageReading(white=65535, depths="both")))
    return folder


@pytest.fixture(scope="module")
def uri(detector_folder, empty_mlflow) -> str:
    """The detector as a logged model; what MLflow keeps lies in one folder."""
    tracking = empty_mlflow(detector_folder.parent)
    client = connect(tracking)
    run = client.create_run(experiment_id(client, tracking, "line"))
    return log_model(RunRef(tracking, run.info.run_id), detector_folder, None)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    return [draw_image(folder, f"{side}.png", (0, 0, side, side)) for side in (20, 60)]


@pytest.fixture(scope="module")
def scores(detector_folder, files) -> list[float]:
    detector = TorchDetector.load(detector_folder, "cpu")
    return [detector(file).score for file in files]


@pytest.mark.slow
def test_loaded_model_reads_whatever_python_has_in_hand(uri, files, scores):
    loaded = mlflow.pyfunc.load_model(uri)
    contents = [file.read_bytes() for file in files]
    texts = [base64.b64encode(content).decode() for content in contents]
    arrays = [np.array(Image.open(file)) for file in files]
    images = [Image.open(file) for file in files]
    for forms in (files, contents, texts, arrays, images):
        assert loaded.predict(forms[0])["score"].tolist() == scores[:1]
        for several in (forms, pd.Series(forms), pd.DataFrame({"image": forms}), pd.DataFrame({"file": forms})):
            assert loaded.predict(several)["score"].tolist() == scores
    assert loaded.predict(np.stack(arrays))["score"].tolist() == scores
    assert loaded.predict([files[0], texts[1]])["score"].tolist() == scores
    grey = arrays[0][..., 0]
    assert loaded.predict(grey)["score"].tolist() == scores[:1]
    assert loaded.predict(grey.astype(np.uint16) * 257)["score"].tolist() == scores[:1]


@pytest.mark.slow
def test_loaded_model_has_a_signature_and_an_example_that_predicts(uri):
    loaded = mlflow.pyfunc.load_model(uri)
    assert loaded.metadata.signature.outputs.input_names() == ["score", "decision", "threshold", "anomaly_map", "pixel_threshold"]
    assert len(loaded.predict(loaded.input_example)) == 1


@pytest.fixture(scope="module")
def server(uri, tmp_path_factory) -> Iterator[str]:
    """The address of ``mlflow models serve``."""
    port, folder = free_port(), tmp_path_factory.mktemp("server")
    command = ["mlflow", "models", "serve", "--model-uri", uri, "--env-manager", "local", "--port", str(port)]
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts uvicorn by its name
    environment = os.environ | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "PATH": programs}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}/ping", folder / "log")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, 15)
        process.wait()


def wait_until_ready(process: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(log.read_text())


def post(url: str, body: bytes | dict[str, Any], content_type: str = "application/json") -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
def test_served_model_takes_every_form_of_a_request_and_opens_no_file(server, uri, files, scores, tmp_path):
    example = json.loads(Path(mlflow.artifacts.download_artifacts(uri), "serving_input_example.json").read_text())
    assert post(server, example)[0] == 200
    texts = [base64.b64encode(file.read_bytes()).decode() for file in files]
    bodies = [
        {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
        {"dataframe_split": {"columns": ["file"], "data": [[text] for text in texts]}},
        {"dataframe_records": [{"image": text, "line": 3} for text in texts]},
        {"inputs": texts},
        {"inputs": {"image": texts}},
        {"inputs": [{"image": text} for text in texts]},
        {"instances": texts},
        {"instances": [{"image": text} for text in texts]},
    ]
    for body in bodies:
        status, answer = post(server, body)
        assert status == 200, answer
        assert [row["score"] for row in answer["predictions"]] == pytest.approx(scores, rel=1e-6)
        assert np.shape(answer["predictions"][0]["anomaly_map"]) == (64, 64)
    frame = pd.DataFrame({"image": [file.read_bytes() for file in files]})
    frame.to_parquet(tmp_path / "a.parquet")
    status, answer = post(server, (tmp_path / "a.parquet").read_bytes(), "application/vnd.apache.parquet")
    assert [row["score"] for row in answer["predictions"]] == pytest.approx(scores, rel=1e-6)
    csv = pd.DataFrame({"image": texts}).to_csv(index=False).encode()
    assert post(server, csv, "text/csv")[0] == 200

    for path in (str(files[0]), files[0].as_uri(), "../" * 9 + str(files[0])[1:]):
        for body in (
            {"dataframe_split": {"columns": ["image"], "data": [[path]]}},
            {"dataframe_records": [{"image": path}]},
            {"inputs": path},
            {"inputs": [path]},
            {"inputs": {"image": path}},
            {"instances": [{"image": path}]},
            {"messages": [], "image": path},
            {"inputs": [{"image": {"path": path}}]},
        ):
            status, answer = post(server, body)
            assert status == 400, answer
            assert set(answer) == {"error_code", "message"}
            assert answer["message"].startswith(("image: got text that is not base64", "dictionary: ", "image: got "))
            assert "\n" not in answer["message"]
