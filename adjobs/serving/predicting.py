"""``POST /v1/predict``, and what all requests for predictions share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from adjobs.serving.answers import describe_predictions, json_answer, predict_answer, request_schema
from adjobs.serving.limits import RefusalError
from adjobs.serving.reading import WantedPredictions, declared_size, read_predictions, until_disconnect
from adjobs.serving.schemas import PredictAnswer, PredictRequest
from adjobs.serving.service import PredictionService

Wanted = TypeVar("Wanted")

_FORM = {
    "type": "object",
    "required": ["image"],
    "additionalProperties": False,
    "properties": {
        "image": {"type": "array", "minItems": 1, "items": {"type": "string", "contentMediaType": "application/octet-stream"}},
        "anomaly_map": {"type": "string", "enum": ["true", "false"]},
        "overlay": {"type": "string", "enum": ["true", "false"]},
    },
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FORM},
        "application/json": {"schema": request_schema(PredictRequest)},
    },
}


async def exchange(
    request: Request,
    service: PredictionService,
    read: Callable[[], Awaitable[Wanted]],
    answer: Callable[[Wanted, float], Any],
) -> Response:
    """Answer a request in its time: read its body, then predict as long as its client waits.

    Args:
        request: of a client.
        service: that predicts.
        read: the body.
        answer: coroutine of the answer, of what was read and the deadline.

    Raises:
        RefusalError: it is refused.
    """
    with service.admitted(declared_size(request, service.limits)) as deadline:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                wanted = await read()
        except TimeoutError:
            raise RefusalError(408, "late", "the request did not come in time; send it faster, or in smaller ones") from None
        response: Response = await until_disconnect(request, answer(wanted, deadline))
        return response


def add_predict(app: FastAPI, service: PredictionService) -> None:
    """Add the endpoint."""

    @app.post("/v1/predict", responses=describe_predictions(PredictAnswer), openapi_extra={"requestBody": _BODY})
    async def predict(request: Request) -> Response:
        """Score, decision and regions of one or several images."""
        return await exchange(request, service, lambda: read_predictions(request, service), answer)

    async def answer(wanted: WantedPredictions, deadline: float) -> JSONResponse:
        model = service.take_model()
        predicted = await service.predict(model, wanted.images, deadline, with_overlay=wanted.overlay)
        return await service.in_thread(lambda: json_answer(predict_answer(model, predicted, wanted)))
