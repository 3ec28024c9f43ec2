"""From a method in PyTorch to an ONNX model: a network of fixed size, with the resize before it and the decisions behind it."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper
from onnxscript import opset20
from torch.export import ExportedProgram

from adjobs.inference.engine_contract import MAP, SCORE
from adjobs.inference.engine_exported import ANOMALY_MAP
from adjobs.inference.export.resize import OPSET, PIXELS, resize_model
from adjobs.inference.manifest import Manifest
from adjobs.inference.tracing import exporting, trace, write_out_half_rounding
from adjobs.methods.method import Method

ANOMALOUS, DEFECT_MASK = "anomalous", "defect_mask"
_PLANES = "anomaly_map_planes"  # the network's map, with a dimension for its only channel


def make_network(method: Method, image_size: int) -> onnx.ModelProto:
    """The ONNX model of a method: ``pixels`` ``(1, S, S, 3)`` uint8 in, ``score`` and the planes of the anomaly map out.

    Further scores of the method are left out. What would be rounded to half precision is rounded by float32 arithmetic, because
    OpenVINO leaves such conversions out.

    Args:
        method: on the CPU; it must not predict meanwhile.
        image_size: S.

    Raises:
        Exception: the method cannot be exported; which class depends on the reason.
    """
    with exporting, _quiet():
        program = network_program(method, image_size)
        exported: Any = torch.onnx.export(
            program,
            verbose=False,
            dynamo=True,
            opset_version=OPSET,
            input_names=[PIXELS],
            output_names=[SCORE, _PLANES][: len(program.graph_signature.user_outputs)],
            custom_translation_table={torch.ops.aten.sort.stable: _sort},
        )
    return onnx.load_model_from_string(exported.model_proto.SerializeToString())


def network_program(method: Method, image_size: int) -> ExportedProgram:
    """What :func:`make_network` converts, in PyTorch's operators."""
    example = torch.zeros((1, image_size, image_size, 3), dtype=torch.uint8)
    program: ExportedProgram = trace(method, example, (SCORE, MAP)).run_decompositions()
    write_out_half_rounding(program.graph_module)
    return program


def add_preprocessing(network: onnx.ModelProto, image_size: int) -> onnx.ModelProto:
    """The network behind the resize: takes ``image``, ``(1, H, W, 3)`` uint8 RGB of any size."""
    resize = resize_model(image_size)
    resize.ir_version = network.ir_version
    # Names are kept apart by those of the network, which has no subgraphs: compose renames nothing inside them.
    prefixed = compose.add_prefix(network, "network/", rename_inputs=False, rename_outputs=False)
    return compose.merge_models(resize, prefixed, io_map=[(PIXELS, PIXELS)])


def add_decisions(network: onnx.ModelProto, manifest: Manifest) -> None:
    """Add what follows from score and map at the detector's thresholds, and the manifest as metadata.

    The outputs are ``score`` ``(1,)`` float32 and ``anomalous`` ``(1,)`` bool; of methods with anomaly maps also ``anomaly_map``
    ``(1, S, S)`` float32, and with a pixel threshold ``defect_mask`` ``(1, S, S)`` bool.
    """
    graph, size = network.graph, manifest.image_size
    outputs = {output.name: output for output in graph.output}
    _add_comparison(graph, SCORE, ANOMALOUS, manifest.threshold.value, [1])
    if _PLANES in outputs:
        graph.output.remove(outputs[_PLANES])
        graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "channel"))
        graph.node.append(helper.make_node("Squeeze", [_PLANES, "channel"], [ANOMALY_MAP]))
        graph.output.append(helper.make_tensor_value_info(ANOMALY_MAP, TensorProto.FLOAT, [1, size, size]))
        if manifest.pixel_threshold is not None:
            _add_comparison(graph, ANOMALY_MAP, DEFECT_MASK, manifest.pixel_threshold.value, [1, size, size])
    network.doc_string = "score: higher is more anomalous; anomalous: the score is at least the threshold"
    helper.set_model_props(network, {"adjobs": manifest.model_dump_json(exclude_none=True)})


def float32_threshold(value: float) -> np.float32:
    """The smallest float32 that is at least a threshold, so that comparing float32 scores with either decides the same."""
    rounded = np.float32(value)
    return rounded if float(rounded) >= value else np.nextafter(rounded, np.float32(math.inf))


def _add_comparison(graph: onnx.GraphProto, values: str, name: str, threshold: float, shape: list[int]) -> None:
    constant = f"{name}_threshold"
    graph.initializer.append(numpy_helper.from_array(np.array(float32_threshold(threshold)), constant))
    graph.node.append(helper.make_node("GreaterOrEqual", [values, constant], [name]))
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.BOOL, shape))


def _sort(values: Any, stable: bool = False, dim: int = -1, descending: bool = False) -> Any:
    """Sorting, which ONNX has as the first n of n; of equal values it, too, takes the one with the lower index first."""
    op: Any = opset20
    length = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    return op.TopK(values, length, axis=dim, largest=int(descending), sorted=1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter prints about its own progress and its future."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
