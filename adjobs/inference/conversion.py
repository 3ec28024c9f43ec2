"""A method's prediction as a file for OpenVINO: everything from pixels to scores and anomaly map is one graph."""

from __future__ import annotations

from pathlib import Path

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose

from adjobs.data.packing import scale
from adjobs.evaluation.evaluate import evaluation_mode
from adjobs.inference.tracing import exporting, flat_outputs, named_outputs, trace, write_out_half_rounding
from adjobs.methods.method import Method


def convert(method: Method, image_size: int, path: Path) -> None:
    """Write the graph of a method for one image, for :class:`adjobs.inference.engine_openvino.OpenVINOEngine` to read.

    Args:
        method: on the CPU; it is not changed, but must not predict meanwhile.
        image_size: height and width of the images, in pixels.
        path: of the ``.xml`` file; weights are written beside it.

    Raises:
        Exception: the method cannot be exported or converted; which class depends on the reason.
    """
    example = torch.zeros((1, image_size, image_size, 3), dtype=torch.uint8)
    with evaluation_mode(method):
        prediction = method.predict(scale(example))
    with exporting:
        exported = trace(method, example)
        kept = torch.export.default_decompositions()
        for operation in ops_to_not_decompose():
            kept.pop(operation, None)  # type: ignore[no-untyped-call]
        graph = exported.run_decompositions(kept).module()
        write_out_half_rounding(graph)
        # Not through openvino.convert_model, which reports its use to Google Analytics.
        decoder = TorchFXPythonDecoder(graph, dynamic_shapes=False)
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    for output, value in zip(model.outputs, flat_outputs(prediction), strict=True):
        output.get_tensor().set_names({name for name, other in named_outputs(prediction).items() if other is value})
    openvino.save_model(model, path, compress_to_fp16=False)
