"""KServe's Open Inference Protocol, version 2, which inference clients of other makers speak."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from adjobs.errors import shown
from adjobs.serving.answers import describe, describe_predictions, json_answer, request_schema
from adjobs.serving.limits import RefusalError
from adjobs.serving.models import ModelInfo, ServedModel
from adjobs.serving.predicting import exchange
from adjobs.serving.reading import read_body
from adjobs.serving.schemas import InferAnswer, InferRequest, InferTensor, ModelMetadata, ServerMetadata, StateAnswer
from adjobs.serving.service import Predicted, PredictionService
from adjobs.serving.v2_tensors import (
    BINARY_SIZE,
    HEADER_LENGTH,
    OUTPUTS,
    Infer,
    chosen_outputs,
    encode,
    input_metadata,
    output_metadata,
    parse_infer,
)
from adjobs.version import __version__

_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": request_schema(InferRequest)},
        "application/octet-stream": {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}},
    },
}


def add_v2(app: FastAPI, service: PredictionService) -> None:
    """Add the endpoints of the protocol."""

    @app.get("/v2", responses=describe(ServerMetadata, 401, 429))
    async def server() -> JSONResponse:
        """The server and the extensions that it has."""
        return json_answer(ServerMetadata(name="adjobs", version=__version__, extensions=["binary_tensor_data"]))

    @app.get("/v2/health/live", responses=describe(StateAnswer))
    async def live() -> JSONResponse:
        """Whether the process answers."""
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready", responses=describe(StateAnswer) | {503: {"model": StateAnswer}})
    async def ready() -> JSONResponse:
        """Whether requests should come."""
        return JSONResponse({"ready": service.is_ready}, 200 if service.is_ready else 503)

    _add_model(app, service)
    _add_infer(app, service)


def _add_model(app: FastAPI, service: PredictionService) -> None:
    @app.get("/v2/models/{name}/versions/{version}", responses=describe(ModelMetadata, 401, 404, 422, 429, 503))
    @app.get("/v2/models/{name}", responses=describe(ModelMetadata, 401, 404, 422, 429, 503))
    async def metadata(name: str, version: str | None = None) -> JSONResponse:
        """Inputs and outputs of the model."""
        model = _find(service, name, version)
        version_text = _version(model.info)
        return json_answer(
            ModelMetadata(
                name=model.info.name,
                versions=[version_text] if version_text else [],
                platform=f"adjobs_{model.info.method}",
                inputs=input_metadata(),
                outputs=output_metadata(model),
            )
        )

    answers = describe(StateAnswer, 401, 404, 422, 429) | {503: {"model": StateAnswer}}

    @app.get("/v2/models/{name}/versions/{version}/ready", responses=answers)
    @app.get("/v2/models/{name}/ready", responses=answers)
    async def ready(name: str, version: str | None = None) -> JSONResponse:
        """Whether the model predicts."""
        _find(service, name, version)
        return JSONResponse({"name": name, "ready": service.is_ready}, 200 if service.is_ready else 503)


def _add_infer(app: FastAPI, service: PredictionService) -> None:
    responses, extra = describe_predictions(InferAnswer, 404), {"requestBody": _BODY}

    @app.post("/v2/models/{name}/versions/{version}/infer", responses=responses, openapi_extra=extra)
    @app.post("/v2/models/{name}/infer", responses=responses, openapi_extra=extra)
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        """Predictions for image files (BYTES) or arrays (UINT8)."""
        model = _find(service, name, version)

        async def read() -> Infer:
            header_length = request.headers.get(HEADER_LENGTH)
            body = await read_body(request, service.limits)
            return await service.in_thread(lambda: parse_infer(body, header_length, service.limits))

        async def answer(wanted: Infer, deadline: float) -> Response:
            outputs = chosen_outputs(wanted.request, model)
            predicted = await service.predict(model, wanted.sources, deadline)
            return await service.in_thread(lambda: _answer(model, predicted, outputs, wanted.request.id))

        return await exchange(request, service, read, answer)


def _find(service: PredictionService, name: str, version: str | None) -> ServedModel:
    model = service.take_model()
    if name != model.info.name:
        raise RefusalError(404, "request", f"unknown model {shown(name)}; this server has {model.info.name}")
    if version is not None and version != _version(model.info):
        in_force = _version(model.info) or "no version in the registry"
        raise RefusalError(404, "request", f"version {shown(version)} is not in force; in force is {in_force}")
    return model


def _version(info: ModelInfo) -> str:
    return "" if info.version is None else str(info.version)


def _answer(model: ServedModel, predicted: Sequence[Predicted], outputs: dict[str, bool], request_id: str) -> Response:
    tensors, chunks = [], []
    for name, is_binary in outputs.items():
        values = OUTPUTS[name].values(model, predicted)
        shape = list(values.shape) if isinstance(values, np.ndarray) else [len(values)]
        tensor = InferTensor(name=name, datatype=OUTPUTS[name].datatype, shape=shape)
        if is_binary:
            chunks.append(encode(values))
            tensor.parameters = {BINARY_SIZE: len(chunks[-1])}
        else:
            tensor.data = values.ravel().tolist() if isinstance(values, np.ndarray) else values
        tensors.append(tensor)
    answer = InferAnswer(
        model_name=model.info.name, model_version=_version(model.info), id=request_id or None, outputs=tensors
    ).model_dump(mode="json", exclude_none=True)
    if not chunks:
        return JSONResponse(answer)
    head = json.dumps(answer).encode()
    return Response(b"".join([head, *chunks]), headers={HEADER_LENGTH: str(len(head))}, media_type="application/octet-stream")
