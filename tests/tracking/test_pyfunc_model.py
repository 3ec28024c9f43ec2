"""The model that MLflow serves."""

from __future__ import annotations

import base64
import math

import pandas as pd
import pytest

from adjobs.errors import DataError
from adjobs.evaluation.predictions import ScoreError
from adjobs.tracking.pyfunc_model import AnomalyModel
from tests.helpers.detectors import NotFinite, brightness_detector, draw_image


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
        (b"", "image of 0 bytes: is not"),
        (b"x", "image of 1 bytes: is not"),
    ],
)
def test_predict_what_is_not_an_image_is_refused_in_one_line(model, image, message):
    with pytest.raises(DataError, match=message):
        model.predict(None, pd.DataFrame({"image": pd.Series([image], dtype=object)}))


def test_predict_score_that_is_not_finite_is_never_a_decision(model, tmp_path):
    model.detector = brightness_detector(method=NotFinite(math.nan))
    content = draw_image(tmp_path, "a.png", (0, 0, 160, 96)).read_bytes()
    with pytest.raises(ScoreError, match="is NaN or infinite"):
        model.predict(None, pd.DataFrame({"image": [content]}))
