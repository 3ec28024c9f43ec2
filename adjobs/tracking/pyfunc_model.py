"""The code of every logged model: images in, score, decision and anomaly map out.

MLflow runs this file when a model is loaded ("models from code").
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

# The code of adjobs lies beside this file in one archive; see adjobs.tracking.logged_model. There is none before it is logged.
if (_archive := Path(__file__).with_name("code") / "adjobs.zip").exists():
    sys.path.insert(0, str(_archive))

import mlflow
import numpy as np
import pandas as pd
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR

from adjobs.errors import DataError
from adjobs.evaluation.predictions import ScoreError
from adjobs.inference.detector import ImagePrediction
from adjobs.inference.torch_detector import TorchDetector
from adjobs.tracking.model_input import images_in, source_of

log = logging.getLogger(__name__)


class _AnsweredError(mlflow.MlflowException):  # type: ignore[misc]
    """MLflow's server answers it with its line alone, and neither repeats the images that were sent nor shows a traceback."""

    status = BAD_REQUEST

    def __init__(self, line: str) -> None:
        mlflow.MlflowException.__init__(self, line, self.status)

    def serialize_as_json(self) -> str:
        """The body of the answer."""
        return json.dumps({"error_code": self.error_code, "message": str(self)})


class ImageRefusedError(DataError, _AnsweredError):
    """An image cannot be read; status 400."""


class NoScoreError(ScoreError, _AnsweredError):
    """The score of an image is not finite; status 500."""

    status = INTERNAL_ERROR


class AnomalyModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A detector behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Load weights, threshold and preprocessing from the model's artifacts."""
        self.detector = TorchDetector.load(Path(context.artifacts["detector"]))

    # A data frame is one of many inputs: with this annotation MLflow lets all pass, with `object` it does not.
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Detect on each image.

        Args:
            context: unused.
            model_input: an image, several of them, or a table, see :func:`adjobs.tracking.model_input.images_in`. Each is the
                bytes of an image file (PNG, JPEG, …), the same as base64 text, a PIL image, an ``(H, W)`` or ``(H, W, 3)`` array
                of uint8 or uint16, or a :class:`pathlib.Path`; they are read as in training.
            params: unused.

        Returns:
            A row for each image: ``score``, ``decision``, ``threshold``, ``anomaly_map`` ((S, S) float32) and
            ``pixel_threshold``, from which a pixel of the anomaly map is defective; these two are None for methods that do not
            localise.

        Raises:
            ImageRefusedError: an image cannot be read; none is predicted then.
            NoScoreError: a score that is not finite, from which no decision follows.
        """
        predictions = self._predict(model_input)
        return pd.DataFrame(
            {
                "score": np.array([prediction.score for prediction in predictions]),
                "decision": np.array([prediction.decision == "anomalous" for prediction in predictions]),
                "threshold": self.detector.threshold,
                "anomaly_map": [prediction.anomaly_map for prediction in predictions],
                "pixel_threshold": self.detector.pixel_threshold,
            }
        )

    def _predict(self, model_input: object) -> list[ImagePrediction]:
        try:
            images = images_in(model_input)
        except DataError as error:
            raise ImageRefusedError(str(error)) from error
        self.detector.expect(len(images))
        predictions = []
        for row, image in enumerate(images):  # one at a time: a batch of large images must not decide how much memory is needed
            try:
                prediction = self.detector(source_of(image))
            except (DataError, ScoreError) as error:
                refusal = NoScoreError if isinstance(error, ScoreError) else ImageRefusedError
                raise refusal(f"row {row}: {error}" if len(images) > 1 else str(error)) from error
            if prediction.warning:
                log.warning("image in row %d: %s", row, prediction.warning)
            predictions.append(prediction)
        return predictions


mlflow.models.set_model(AnomalyModel())
