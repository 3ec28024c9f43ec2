from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from adjobs.cli.jobs import waiting
from adjobs.cli.jobs.waiting import Patience, wait_for
from adjobs.errors import QueueError, QueueUnavailableError

RUNNING = {"id": "ab12", "state": "running", "explanation": "running"}
DONE = {"id": "ab12", "state": "done", "explanation": "succeeded"}
SILENT = QueueUnavailableError("the queue does not answer")


class Queue:
    """Answers as a test says, one after the other."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self._answers = iter(answers)

    def get(self, job: str) -> dict[str, Any]:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def wait(*answers: dict[str, Any] | Exception) -> list[dict[str, Any]]:
    return wait_for(Queue(*answers), ["ab12"], poll_seconds=0.0)  # type: ignore[arg-type]


def test_wait_for_queue_that_is_restarted_meanwhile():
    assert wait(RUNNING, SILENT, SILENT, DONE) == [DONE]


@pytest.mark.parametrize("refusal", ["the token is unknown or revoked", "no such job"])
def test_wait_for_refusal_is_raised_at_once(refusal):
    with pytest.raises(QueueError, match=refusal):
        wait(RUNNING, QueueError(refusal))


def test_wait_for_queue_that_never_answered_is_not_waited_for():
    with pytest.raises(QueueUnavailableError):
        wait(SILENT)


def test_ask_gives_up_after_minutes(monkeypatch):
    now = 0.0
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now)
    patience, request = Patience(), silent_after_one()
    assert patience.ask(request) == "answer"
    now = waiting.PATIENCE_SECONDS - 1
    assert patience.ask(request) is None
    now = waiting.PATIENCE_SECONDS + 1
    with pytest.raises(QueueUnavailableError):
        patience.ask(request)


def silent_after_one() -> Callable[[], str]:
    answers = iter(["answer"])

    def request() -> str:
        for answer in answers:
            return answer
        raise SILENT

    return request
