"""The code of every logged model: pictures as bytes in, score, decision and heat map out.

MLflow runs this file when a model is loaded ("models from code").
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from adjobs.inference.detector import Detector


class AnomalyModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A detector behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Load weights, threshold and preprocessing from the model's artifacts."""
        self.detector = Detector.load(Path(context.artifacts["detector"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Detect on each row.

        Args:
            context: unused.
            model_input: column ``image``: an encoded picture (PNG, JPEG, …) as bytes, or as base64 text.
            params: unused.

        Returns:
            ``score``, ``decision``, ``threshold``, ``heat_map`` ((S, S) float32) and ``pixel_threshold``, at which a place of the
            heat map is marked as defective; these two are None for methods that locate nothing.
        """
        pictures = [base64.b64decode(item) if isinstance(item, str) else bytes(item) for item in model_input["image"]]
        # One at a time: a batch of large pictures must not decide how much memory a server needs.
        found = [self.detector(self.detector.read(picture)[None]) for picture in pictures]
        return pd.DataFrame(
            {
                "score": np.array([float(f.scores[0]) for f in found]),
                "decision": np.array([bool(f.decisions[0]) for f in found]),
                "threshold": self.detector.threshold,
                "heat_map": [None if f.maps is None else f.maps[0] for f in found],
                "pixel_threshold": self.detector.pixel_threshold,
            }
        )


mlflow.models.set_model(AnomalyModel())
