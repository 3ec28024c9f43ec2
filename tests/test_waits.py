"""What takes long is announced, and what does not is not."""

from __future__ import annotations

import logging
import threading
import time

from adjobs import waits
from adjobs.parallel import in_threads
from adjobs.waits import announcing, waiting_for


def test_waiting_for_what_takes_long_is_announced_once(monkeypatch):
    monkeypatch.setattr(waits, "SECONDS", 0.01)
    announced, texts = threading.Event(), []

    def announce(text):
        texts.append(text)
        announced.set()

    with announcing(announce), waiting_for("storing the model"):
        assert announced.wait(60)
    assert texts == ["storing the model"]


def test_waiting_for_what_ends_at_once_is_not_announced(monkeypatch):
    monkeypatch.setattr(waits, "SECONDS", 0.5)
    texts = []
    with announcing(texts.append), waiting_for("storing the model"):
        pass
    time.sleep(0.6)
    assert texts == []


def test_waiting_for_without_an_announcer_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(waits, "SECONDS", 0)
    with caplog.at_level(logging.INFO, "adjobs"), waiting_for("storing the model"):
        pass
    assert caplog.messages == ["storing the model ..."]


def test_in_threads_without_a_terminal_is_announced(monkeypatch):
    monkeypatch.setattr(waits, "SECONDS", 0)
    texts = []
    with announcing(texts.append):
        assert in_threads(abs, [-1, 2], text="checking", progress=True) == [1, 2]
        in_threads(abs, [-1, 2], text="sorting")  # of which no progress is wanted
    assert texts == ["checking: 2 items"]
