"""What every method is: an abstract ``nn.Module`` that is trained in stages and predicts.

Apart from :mod:`adjobs.methods.contract`, because this module needs torch and a job file does not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Generator, Tensor, nn

from adjobs.methods.contract import Stage
from adjobs.types import Batch, Prediction, Simulated, StepLoss


class Method(nn.Module, ABC):
    """A method of :mod:`adjobs.methods`."""

    @abstractmethod
    def stages(self) -> Sequence[Stage]:
        """The stages in order; cheap to call, touches no data."""

    @abstractmethod
    def forward(self, batch: Batch) -> StepLoss:
        """Train, and nothing else. Gradients are synchronised between workers only through this call."""

    @abstractmethod
    def predict(self, images: Tensor) -> Prediction:
        """Predict, and nothing else: ``(B, 3, H, W)`` in [0, 1] to scores and anomaly maps, no thresholds, no gradients."""

    def simulate(self, batch: Batch) -> Simulated:
        """Put simulated anomalies on the images that ``batch.simulate`` marks; of methods whose ``Spec.simulates`` is true."""
        raise TypeError(f"{type(self).__name__} simulates no anomalies")

    def fill(self, images: Tensor, generator: Generator) -> tuple[Tensor, ...]:
        """Images ``(B, 3, H, W)`` in [0, 1], masked and inpainted again; empty for methods that do not learn by inpainting."""
        return ()

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Start with another run's state; of methods with a ``Spec.warm_start``."""
        raise TypeError(f"{type(self).__name__} cannot start with another run's weights")
