"""What is answered: predictions, and refusals as one line under the key ``error``."""

from __future__ import annotations

import base64
import logging
from io import BytesIO
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from PIL import Image
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from adjobs.errors import printable
from adjobs.serving.limits import RefusalError
from adjobs.serving.metrics import ServingMetrics
from adjobs.serving.models import ModelInfo, ServedModel
from adjobs.serving.reading import WantedPredictions
from adjobs.serving.schemas import ErrorAnswer, MapAnswer, ModelAnswer, PredictAnswer, PredictionAnswer
from adjobs.serving.service import Predicted

log = logging.getLogger(__name__)

CLIENT_LEFT = 499  # nobody reads it; what proxies and web servers log for it
LEVELS = 2**16 - 1  # of an anomaly map's PNG
COMPRESSION = 3  # zlib's level: files a few percent larger than at 6, in half the time
_PREDICT = (400, 401, 408, 413, 415, 422, 429, 503)


def describe(model: type[BaseModel], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """All answers, for the description of an endpoint."""
    return {200: {"model": model}, **{status: {"model": ErrorAnswer} for status in statuses}}


def describe_predictions(model: type[BaseModel], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The same of an endpoint that predicts."""
    return describe(model, *_PREDICT, *statuses)


def request_schema(model: type[BaseModel]) -> Any:
    """The schema of a body that an endpoint reads by itself, complete in one place: FastAPI collects only those that it reads."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rpartition("/")[2]])
        return {key: resolve(value) for key, value in node.items()}

    return resolve(schema)


def json_answer(answer: BaseModel, status: int = 200) -> JSONResponse:
    """An answer in JSON."""
    return JSONResponse(answer.model_dump(mode="json"), status)


def model_answer(info: ModelInfo) -> ModelAnswer:
    """Which model it is."""
    return ModelAnswer(
        name=info.name,
        version=info.version,
        run_id=info.run_id,
        method=info.method,
        image_size=info.image_size,
        threshold=info.threshold,
        pixel_threshold=info.pixel_threshold,
    )


def predict_answer(model: ServedModel, predicted: list[Predicted], wanted: WantedPredictions) -> PredictAnswer:
    """The answer to a request; takes milliseconds for each map and overlay."""
    predictions = [_prediction(model, each, wanted) for each in predicted]
    return PredictAnswer(predictions=predictions, model=model_answer(model.info))


def _prediction(model: ServedModel, predicted: Predicted, wanted: WantedPredictions) -> PredictionAnswer:
    image, prediction = predicted
    anomaly_map = prediction.anomaly_map
    return PredictionAnswer(
        score=prediction.score,
        decision=prediction.decision,
        threshold=prediction.threshold,
        regions=[list(region) for region in prediction.regions],
        defect_area=prediction.defect_area,
        width=image.size[0],
        height=image.size[1],
        warning=prediction.warning,
        anomaly_map=encode_map(anomaly_map) if wanted.anomaly_map and anomaly_map is not None else None,
        overlay=_draw(model, predicted) if wanted.overlay else None,
    )


def encode_map(anomaly_map: np.ndarray) -> MapAnswer:
    """An anomaly map as a grey PNG of 16 bits, from its own lowest value to its highest.

    Args:
        anomaly_map: ``(S, S)`` float32, finite.
    """
    low, high = float(anomaly_map.min()), float(anomaly_map.max())
    shares = (anomaly_map.astype(np.float64) - low) / ((high - low) or 1.0)
    pixels = np.floor(shares * LEVELS + 0.5).astype(np.uint16)
    return MapAnswer(png=_png(Image.fromarray(pixels)), low=low, high=high)


def _draw(model: ServedModel, predicted: Predicted) -> str | None:
    """The overlay that ``adjobs predict`` writes; without an anomaly map, the image alone."""
    from adjobs.inference.overlay import draw_overlay

    image, prediction = predicted
    if image.shrunk is None:
        return None
    manifest = model.detector.manifest
    if prediction.anomaly_map is None:
        return _png(image.shrunk)
    threshold = prediction.threshold if model.info.pixel_threshold is None else model.info.pixel_threshold
    floor = manifest.map_floor or 0.0
    return _png(draw_overlay(image.shrunk, prediction.anomaly_map, floor, threshold, prediction.region_mask))


def _png(image: Image.Image) -> str:
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=COMPRESSION)
    return base64.b64encode(buffer.getvalue()).decode()


def add_errors(app: FastAPI, metrics: ServingMetrics) -> None:
    """Every refusal is one line under the key ``error``."""

    @app.exception_handler(RefusalError)
    async def refuse(request: Request, error: RefusalError) -> JSONResponse:
        metrics.refused.labels(error.reason).inc()
        return JSONResponse(error.content, error.status, error.headers)

    @app.exception_handler(StarletteHTTPException)
    async def refuse_path(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_parameters(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": printable(f"{first['loc'][-1]}: {first['msg']}")[:300]}, 422)

    @app.exception_handler(ClientDisconnect)
    async def forget(request: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"error": "the client has left"}, CLIENT_LEFT)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "internal error; the server's log says more"}, 500)
