"""Requests that are made from the description of the interface: no internal errors, all answers as described."""

from __future__ import annotations

import base64
import itertools
import re
from collections import Counter
from collections.abc import Iterator

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

from adjobs.serving.app import make_app
from adjobs.serving.limits import Limits
from adjobs.serving.models import ModelSource
from adjobs.serving.service import PredictionService
from tests.helpers.serving import HeldDetector, draw_png

LEAKS = re.compile(r"Traceback|File \"|/(?:home|tmp|usr|root|etc)/|0x[0-9a-f]{6}|\.py\b")


@schemathesis.check
def answers_without_leaks(context, response, case) -> None:
    assert not LEAKS.search(response.text or ""), response.text[:500]


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    answers_without_leaks,
]
GENERATED = settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
)


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    source = ModelSource("models:/tiles/1", lambda model: HeldDetector(), find_run=lambda pinned: None)
    service = PredictionService(source, Limits(max_body=100_000))
    service.load()
    yield make_app(service)
    service.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_described_requests_are_answered_as_described(app, mode):
    """Whether they are as described, or differ from it somewhere."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    statuses: Counter[tuple[str, int]] = Counter()
    numbers = itertools.count()
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:

        @GENERATED
        @given(case=operation.as_strategy(generation_mode=mode))
        def call(case: schemathesis.Case) -> None:
            change(case, next(numbers) % 3, mode)
            response = case.call()
            statuses[f"{case.method} {case.path}", response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        try:
            call()
        except Unsatisfiable:  # nothing about it can be wrong
            assert mode is GenerationMode.NEGATIVE
    assert len(operations) == 13
    assert ("GET /v2/models/{name}", 404) in statuses
    assert statuses["POST /v1/predict", 422] > 5
    if mode is GenerationMode.POSITIVE:
        for path in ("GET /v2/models/{name}", "POST /v1/predict", "POST /v2/models/{name}/infer"):
            assert statuses[path, 200] > 3, path
    else:
        assert sum(count for (path, status), count in statuses.items() if path.endswith("/infer") and status != 404) > 5


def change(case: schemathesis.Case, variant: int, mode: GenerationMode) -> None:
    """In most cases name the model that there is, which nothing generates, and of those that are as described send images."""
    if variant and case.path_parameters:
        case.path_parameters = {name: {"name": "tiles", "version": "1"}[name] for name in case.path_parameters}
    if variant < 2 or mode is GenerationMode.NEGATIVE or not isinstance(case.body, dict):
        return
    text = base64.b64encode(draw_png()).decode()
    if "inputs" in case.body:
        case.body = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}]}
    elif "images" in case.body:
        case.body = {**case.body, "images": [text]}
    elif "image" in case.body:
        case.body = {**case.body, "image": [draw_png()]}
