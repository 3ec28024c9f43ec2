"""The code of every logged model: images as bytes in, score, decision and anomaly map out.

MLflow runs this file when a model is loaded ("models from code").
"""

from __future__ import annotations

import base64
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

from adjobs.errors import DataError, one_line
from adjobs.inference.torch_detector import TorchDetector

log = logging.getLogger(__name__)


class AnomalyModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A detector behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Load weights, threshold and preprocessing from the model's artifacts."""
        self.detector = TorchDetector.load(Path(context.artifacts["detector"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Detect on each row.

        Args:
            context: unused.
            model_input: column ``image``: an encoded image (PNG, JPEG, …) as bytes, or as base64 text.
            params: unused.

        Returns:
            ``score``, ``decision``, ``threshold``, ``anomaly_map`` ((S, S) float32) and ``pixel_threshold``, from which a pixel
            of the anomaly map is defective; these two are None for methods that do not localise.

        Raises:
            DataError: a row that is not an image.
            ScoreError: a score that is not finite, from which no decision follows.
        """
        images = list(map(_content, model_input["image"]))
        # One at a time: a batch of large images must not decide how much memory a server needs.
        predictions = [self.detector(image) for image in images]
        for row, prediction in enumerate(predictions):
            if prediction.warning:
                log.warning("image in row %d: %s", row, prediction.warning)
        return pd.DataFrame(
            {
                "score": np.array([prediction.score for prediction in predictions]),
                "decision": np.array([prediction.decision == "anomalous" for prediction in predictions]),
                "threshold": self.detector.threshold,
                "anomaly_map": [prediction.anomaly_map for prediction in predictions],
                "pixel_threshold": self.detector.pixel_threshold,
            }
        )


def _content(item: object) -> bytes:
    """The image file in a row."""
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if not isinstance(item, str):
        raise DataError(f"image: got {type(item).__name__}; give an encoded image as bytes, or as base64 text")
    try:
        return base64.b64decode("".join(item.split()), validate=True)
    except ValueError as error:
        raise DataError(f"image: got text that is not base64 ({one_line(error)}); give an encoded image") from error


mlflow.models.set_model(AnomalyModel())
