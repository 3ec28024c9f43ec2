"""Ray Train's trainer, without its handler of Ctrl-C."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer


class Trainer(TorchTrainer):  # type: ignore[misc]  # Ray has no types
    """Leaves signals to the program around it.

    Ray Train's own handler waits until the workers have been stopped, then ends the program with status 1 (Ray 2.60); a run
    would be closed as failed, and nothing would say how to resume it. The workers end with the connection to Ray anyway.
    """

    def _register_sigint_handler(self, controller: Any) -> None:
        """Register none."""
