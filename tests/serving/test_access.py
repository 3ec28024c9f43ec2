from __future__ import annotations

from collections.abc import Iterator

import pytest

from adjobs.serving import access
from adjobs.web.key_file import digest
from tests.helpers.serving import RunningDetector, draw_png

KEYS = ["a" * 40, "b" * 40]


@pytest.fixture
def server(monkeypatch) -> Iterator[RunningDetector]:
    monkeypatch.setattr(access, "FAILURES_AT_ONCE", 4)
    with RunningDetector(keys=[digest(key) for key in KEYS]) as server:
        yield server.load()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_request_with_one_of_the_keys_is_answered(server):
    assert [server.post(draw_png(), headers=bearer(key)).status_code for key in KEYS] == [200, 200]
    assert server.get("/metrics", headers=bearer(KEYS[0])).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/v2", "/v2/models/tiles", "/nothing"])
def test_request_without_a_right_key_is_refused(server, path):
    answers = [server.get(path), server.get(path, headers=bearer("a" * 39)), server.get(path, headers={"Authorization": KEYS[0]})]
    assert [answer.status_code for answer in answers] == [401] * 3
    assert answers[0].json() == {"error": "no key was sent; send the header 'Authorization: Bearer KEY'"}
    assert answers[0].headers["WWW-Authenticate"] == "Bearer"


def test_image_without_a_key_is_refused(server):
    assert server.post(draw_png()).status_code == 401


def test_probes_and_pages_need_no_key(server):
    for path in access.OPEN_PATHS:
        assert server.get(path).status_code == 200, path


def test_wrong_keys_of_an_address_are_limited_and_do_not_keep_out_right_ones(server):
    answers = [server.get("/v2", headers=bearer("wrong")) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 4 + [429] * 2
    assert answers[-1].headers["Retry-After"] in ("1", "2")
    assert server.get("/v2", headers=bearer(KEYS[0])).status_code == 200


def test_every_answer_has_headers_that_protect_it(server):
    for path in ("/healthz", "/nothing", "/"):
        answer = server.get(path)
        assert (answer.headers["X-Content-Type-Options"], answer.headers["Cache-Control"]) == ("nosniff", "no-store")
