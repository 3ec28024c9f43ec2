"""Optimizer steps: each operation launched by itself, or, on a GPU, whole steps captured as CUDA graphs and repeated.

A step of these methods is a thousand small operations, and launching them takes a GPU's host longer than the GPU takes to do
them. A captured step is launched as one. It reads its batch, its learning rates and its random seeds from tensors, which are
filled before each repetition, so that it does what the step would have done by itself.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adjobs import devices
from adjobs.data.packing import BatchPacker, PackedBatch
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.methods.contract import Stage
from adjobs.training.optimizers import capturable

log = logging.getLogger(__name__)

Layout = tuple[int, int, int]  # bytes of a packed batch, and its simulated rows


class OptimizerStep:
    """One optimizer step on a packed batch.

    Args:
        stage: what is trained.
        module: the stage's, as it is trained by several workers.
        optimizer: of the stage.
        packer: unpacks batches.
        device_config: device and precision.

    Attributes:
        generator: the source of randomness, to be seeded before each step.
    """

    def __init__(
        self, stage: Stage, module: nn.Module, optimizer: Optimizer, packer: BatchPacker, device_config: DeviceConfig
    ) -> None:
        self.generator = torch.Generator(device_config.device)
        self._stage, self._module, self._optimizer = stage, module, optimizer
        self._packer, self._device_config = packer, device_config
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None

    def __call__(self, packed: PackedBatch) -> None:
        """Take a step on a batch that is on the device, and add its losses to the sums."""
        batch = self._packer.unpack(packed, self.generator)
        with self._device_config.autocasting():
            loss = self._module(batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        if self._stage.clip_norm is not None:
            parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self._stage.clip_norm)
        self._optimizer.step()
        self._add({"loss": loss.total, **loss.terms})

    def _add(self, terms: Mapping[str, Tensor]) -> None:
        values = torch.stack([value.detach().double() for value in terms.values()])
        if self._sums is None:
            self._names, self._sums = tuple(terms), torch.zeros_like(values)
        self._sums += values

    def seed(self, seed: int) -> None:
        """Seed the randomness of the next step; dropout inside networks of other libraries draws from the global generator."""
        self.generator.manual_seed(seed)
        torch.manual_seed(seed)

    def sums(self) -> dict[str, float]:
        """Loss and its terms, summed over the steps since the last reset; waits for the device."""
        return {} if self._sums is None else dict(zip(self._names, self._sums.tolist(), strict=True))

    def reset_sums(self) -> None:
        """Start to sum afresh."""
        if self._sums is not None:
            self._sums.zero_()


class CapturedSteps:
    """Captures steps on batches of each layout that comes often enough, and repeats them.

    The first step of a layout is taken as it is: it makes what later ones use, such as the optimizer's state. The second one
    shows whether it can be captured, and from the third one on it is. The last batch of an epoch has a layout of its own.

    Args:
        step: to capture.
        optimizer: that it calls.
        capturer: of the device.
        name: of the stage, for the log.
    """

    def __init__(self, step: OptimizerStep, optimizer: Optimizer, capturer: devices.Capturer, name: str) -> None:
        self._step, self._optimizer, self._name = step, optimizer, name
        self._capturer: devices.Capturer | None = capturer
        self._seen: Counter[Layout] = Counter()
        self._captured: dict[Layout, tuple[PackedBatch, devices.Captured]] = {}

    def __call__(self, packed: PackedBatch) -> None:
        """Take a step on a batch that is on the device."""
        layout = len(packed.buffer), packed.simulated_rows.start, packed.simulated_rows.stop
        self._seen[layout] += 1
        if self._capturer is None or self._seen[layout] == 1:
            self._step(packed)
        elif self._seen[layout] == 2:
            self._give_up(self._capturer.warm_up(lambda: self._step(packed)))
        elif layout in self._captured or self._capture(self._capturer, layout, packed):
            static, captured = self._captured[layout]
            static.buffer.copy_(packed.buffer)
            captured.replay()
        else:
            self._step(packed)

    def _capture(self, capturer: devices.Capturer, layout: Layout, packed: PackedBatch) -> bool:
        """Capture steps on batches of this layout; whether that succeeded."""
        static = packed._replace(buffer=torch.zeros_like(packed.buffer))
        self._optimizer.zero_grad(set_to_none=True)
        try:
            with capturable(self._optimizer):
                captured = capturer.capture(lambda: self._step(static), [self._step.generator])
        except RuntimeError as error:
            self._give_up(str(error).partition("\n")[0])
            return False
        self._captured[layout] = static, captured
        return True

    def _give_up(self, reason: str | None) -> None:
        if reason is not None:
            self._capturer = None
            self._captured.clear()
            log.warning("stage %s: its steps are not captured as a CUDA graph, which is slower: %s", self._name, reason)
