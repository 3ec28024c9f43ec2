"""A method's prediction as a graph of PyTorch's operators, from which graphs of other runtimes are made."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from adjobs.data.packing import scale
from adjobs.inference.engine_contract import EXTRA, MAP, SCORE
from adjobs.methods.method import Method
from adjobs.types import Prediction

HALF_SPLIT = 2.0**13 + 1  # leaves 11 of the 24 bits of float32's significand

exporting = threading.Lock()
"""To be held while a graph is made: PyTorch keeps the state of an export for the process, and two at once disturb each other."""


def trace(method: Method, example: Tensor, names: Collection[str] | None = None) -> ExportedProgram:
    """The graph of a method's prediction.

    Args:
        method: on the device of ``example``; it is not changed, but must not predict meanwhile.
        example: images of the shape that the graph will take, ``(B, S, S, 3)`` uint8.
        names: of the outputs, such as `SCORE`, which are float32 then; None: all of them, as the method gives them.
    """
    was_training = method.training
    method.eval()
    try:
        with torch.no_grad():
            return torch.export.export(FlatMethod(method, names).eval(), (example,), strict=False)
    finally:
        method.train(was_training)


class FlatMethod(nn.Module):
    """A method's prediction of uint8 images as a tuple of tensors, none of them twice."""

    def __init__(self, method: Method, names: Collection[str] | None = None) -> None:
        super().__init__()
        self.method, self._names = method, names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict ``(B, S, S, 3)`` uint8 images."""
        outputs = flat_outputs(self.method.predict(scale(images)), self._names)
        return outputs if self._names is None else tuple(value.float() for value in outputs)


def flat_outputs(prediction: Prediction, names: Collection[str] | None = None) -> tuple[Tensor, ...]:
    """The tensors of a prediction, of these names; OpenVINO refuses a graph with an output under two names."""
    named = named_outputs(prediction)
    return tuple({id(named[name]): named[name] for name in named if names is None or name in names}.values())


def named_outputs(prediction: Prediction) -> dict[str, Tensor]:
    """Score, map and extra scores by name."""
    maps = {} if prediction.anomaly_map is None else {MAP: prediction.anomaly_map}
    extra_scores = {EXTRA + name: values for name, values in (prediction.extra_scores or {}).items()}
    return {SCORE: prediction.score, **maps, **extra_scores}


def write_out_half_rounding(module: Any) -> None:
    """Round to half precision by float32 arithmetic (Veltkamp's splitting), because OpenVINO leaves conversions to half out."""
    aten = torch.ops.aten
    for node in module.graph.find_nodes(op="call_function", target=aten._to_copy.default):
        if node.kwargs.get("dtype") is not torch.float16:
            continue
        value = node.args[0]
        with module.graph.inserting_before(node):
            scaled = module.graph.call_function(aten.mul.Tensor, (value, HALF_SPLIT))
            low = module.graph.call_function(aten.sub.Tensor, (scaled, value))
            rounded = module.graph.call_function(aten.sub.Tensor, (scaled, low))
        for added in (scaled, low, rounded):
            added.meta = dict(value.meta)
        node.args = (rounded,)
    module.recompile()
