"""Ray Train's trainer without its signal handler; what Ctrl-C then does is tested with the command line."""

from __future__ import annotations

import signal

import pytest
from ray.train.torch import TorchTrainer

from adjobs.training.backends.trainer import Trainer


def test_trainer_registers_no_handler_where_ray_train_would(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[int] = []
    monkeypatch.setattr(signal, "signal", lambda number, handler: registered.append(number))
    TorchTrainer._register_sigint_handler(object.__new__(Trainer), None)
    assert registered == [signal.SIGINT]
    Trainer._register_sigint_handler(object.__new__(Trainer), None)
    assert registered == [signal.SIGINT]
