"""The application, the same under uvicorn and under Ray Serve."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse

from adjobs.errors import ServerError
from adjobs.serving.access import Gate
from adjobs.serving.answers import add_errors, describe, json_answer
from adjobs.serving.metrics import CONTENT_TYPE
from adjobs.serving.page import add_pages
from adjobs.serving.predicting import add_predict
from adjobs.serving.schemas import FollowAnswer, HealthAnswer, ReadyAnswer
from adjobs.serving.service import PredictionService
from adjobs.serving.v2 import add_v2
from adjobs.version import __version__


def make_app(service: PredictionService, key_digests: Sequence[str] = ()) -> FastAPI:
    """The application.

    Args:
        service: that predicts.
        key_digests: of the keys of which a request must send one, from :func:`adjobs.web.key_file.read_digests`; none: everybody
            is answered.

    Raises:
        ServerError: a package that reads forms is missing.
    """
    if importlib.util.find_spec("python_multipart") is None:  # needed at the first form; better now
        raise ServerError("forms need the package python-multipart, which is not installed; run: pip install 'adjobs[serve]'")
    app = FastAPI(title="adjobs detector", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, key_digests=key_digests, metrics=service.metrics)
    add_errors(app, service.metrics)
    add_pages(app)
    _add_probes(app, service)
    _add_metrics(app, service)
    add_predict(app, service)
    add_v2(app, service)
    return app


def _add_probes(app: FastAPI, service: PredictionService) -> None:
    @app.get("/healthz", responses=describe(HealthAnswer) | {503: {"model": HealthAnswer}})
    async def health() -> JSONResponse:
        """Whether the process answers and can predict, now or once its model is loaded; if not, it must be started again."""
        status = "ok" if service.is_alive else "predictions have ended"
        return json_answer(HealthAnswer(status=status, version=__version__), 200 if service.is_alive else 503)

    @app.get("/readyz", responses=describe(ReadyAnswer) | {503: {"model": ReadyAnswer}})
    async def ready() -> JSONResponse:
        """Whether requests should come: the model is loaded and warm, and the server is not stopping."""
        status = "ready" if service.is_ready else "stopping" if service.is_draining else "loading"
        model, state = service.model.current, service.model.state
        alias = service.model.source.alias
        following = None if alias is None else FollowAnswer(alias=alias, checked_at=state.checked_at, error=state.error)
        answer = ReadyAnswer(status=status, model=None if model is None else str(model.info), following=following)
        return json_answer(answer, 200 if service.is_ready else 503)


def _add_metrics(app: FastAPI, service: PredictionService) -> None:
    content = {"text/plain": {"schema": {"type": "string"}}}

    @app.get("/metrics", response_class=PlainTextResponse, responses={200: {"content": content}})
    def metrics() -> PlainTextResponse:
        """Figures for Prometheus."""
        return PlainTextResponse(service.metrics.exposition(), media_type=CONTENT_TYPE)
