"""The base class of every method: an abstract ``nn.Module`` that is trained in stages and predicts.

Not part of :mod:`adjobs.methods.contract`, because this module needs torch, and a job file does not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Generator, Tensor, nn

from adjobs.methods.contract import MethodConfig, Spec, Stage
from adjobs.types import Batch, Prediction, Simulated, StepLoss


class Method(nn.Module, ABC):
    """A method; `stages`, `forward` and `predict` are required, the other methods depend on its ``SPEC``."""

    @abstractmethod
    def stages(self) -> Sequence[Stage]:
        """The stages in order; cheap to call, reads no data."""

    @abstractmethod
    def forward(self, batch: Batch) -> StepLoss:
        """Loss of a training step; not for inference. Gradients are synchronised between workers through this call only."""

    @abstractmethod
    def predict(self, images: Tensor) -> Prediction:
        """Scores and anomaly maps of ``(B, 3, H, W)`` images in [0, 1]; no thresholds, no gradients; not for training."""

    def simulate(self, batch: Batch) -> Simulated:
        """Put simulated anomalies on the images that ``batch.simulate`` marks; required if ``Spec.simulates``."""
        raise TypeError(f"{type(self).__name__} simulates no anomalies")

    def fill(self, images: Tensor, generator: Generator) -> tuple[Tensor, ...]:
        """``(B, 3, H, W)`` images in [0, 1], masked and inpainted, to look at; empty if the method does not inpaint."""
        return ()

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Start from the state of another run; required if there is a ``Spec.warm_start``."""
        raise TypeError(f"{type(self).__name__} cannot start from another run's weights")


class MethodFactory(Protocol):
    """Builds a method with its pretrained and random weights."""

    def __call__(self, config: Any, *, image_size: int, seed: int) -> Method:
        """The method.

        Args:
            config: of the method's own configuration class.
            image_size: height and width of the images, in pixels, a multiple of 32.
            seed: seed of the random weights; the global random state is not changed.
        """
        ...


class LoadedMethod(NamedTuple):
    """A method that has been imported.

    Attributes:
        name: its name.
        spec: its specification.
        config: its configuration class.
        build: builds it.
    """

    name: str
    spec: Spec
    config: type[MethodConfig]
    build: MethodFactory
