"""Where an exported network parts from PyTorch: the first tensor that differs, looked for when a check has failed."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import onnx
import torch
from torch.fx import Interpreter, Node

from adjobs.inference.engine import TOLERANCE
from adjobs.inference.engine_contract import GraphFormat
from adjobs.inference.export.graph import network_program
from adjobs.inference.export.resize import PIXELS
from adjobs.methods.method import Method


def first_difference(method: Method, network: onnx.ModelProto, format: GraphFormat, pixels: np.ndarray) -> str | None:
    """The first operation whose result differs by more than the tolerance, relative to its largest value.

    Args:
        method: on the CPU.
        network: what :func:`adjobs.inference.export.graph.make_network` made of it.
        format: whose runtime computes it.
        pixels: ``(1, S, S, 3)`` uint8.

    Returns:
        Its name, its operator and both values; None if no tensor that both have differs.
    """
    expected = _record(method, pixels)
    names = [name for node in network.graph.node for name in node.output if name in expected]
    actual = _run(network, format, names, pixels)
    for name in names:
        values, others, what = expected[name].values, actual[name], expected[name].operator
        if values.shape != others.shape:
            return f"{name} ({what}) has shape {others.shape}, by PyTorch {values.shape}"
        gaps = np.abs(others - values)
        if not gaps.max(initial=0) <= TOLERANCE * np.abs(values).max(initial=0):
            index = int(np.nan_to_num(gaps, nan=np.inf).argmax())
            return f"{name} ({what}) is {others.flat[index]:.6g}, by PyTorch {values.flat[index]:.6g}"
    return None


class _Recorded:
    def __init__(self, values: np.ndarray, operator: str) -> None:
        self.values, self.operator = values, operator


class _Recorder(Interpreter):
    """Runs a graph and keeps every floating-point tensor."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__(module)
        self.recorded: dict[str, _Recorded] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, torch.Tensor) and result.is_floating_point():
            self.recorded[n.name] = _Recorded(result.float().numpy().copy(), _operator_of(n))
        return result


def _operator_of(node: Node) -> str:
    source = node.args[0] if node.target is operator.getitem and isinstance(node.args[0], Node) else node
    return str(source.target)


def _record(method: Method, pixels: np.ndarray) -> dict[str, _Recorded]:
    recorder = _Recorder(network_program(method, pixels.shape[1]).module())
    with torch.no_grad():
        recorder.run(torch.from_numpy(pixels))
    return recorder.recorded


def _run(network: onnx.ModelProto, format: GraphFormat, names: list[str], pixels: np.ndarray) -> dict[str, np.ndarray]:
    """These tensors of the network, as the runtime computes them."""
    extended = onnx.ModelProto()
    extended.CopyFrom(network)
    known = {output.name for output in network.graph.output}
    extended.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    content = extended.SerializeToString()
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(names, {PIXELS: pixels}), strict=True))
    from adjobs.inference.openvino_core import CORE

    request = CORE.compile_model(CORE.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    results = request.infer({PIXELS: pixels})
    return {name: results[name].copy() for name in names}
