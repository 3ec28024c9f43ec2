"""Requests that are made from the description of the interface: no internal errors, all answers as described."""

from __future__ import annotations

import re

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
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
from tests.helpers.detectors import brightness_detector

LEAKS = re.compile(r"Traceback|File \"|/(?:home|tmp|usr|root|etc)/|0x[0-9a-f]{6}|\.py\b")


@pytest.fixture(scope="module")
def description():
    source = ModelSource("models:/tiles/1", lambda model: brightness_detector(), find_run=lambda pinned: None)
    service = PredictionService(source, Limits(max_body=100_000))
    service.load()
    yield schemathesis.openapi.from_asgi("/openapi.json", make_app(service))
    service.close()


schema = schemathesis.pytest.from_fixture("description")


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


@pytest.mark.slow
@schema.parametrize()
@settings(
    max_examples=30,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_described_requests_are_answered_as_described(case):
    case.call_and_validate(checks=CHECKS)
