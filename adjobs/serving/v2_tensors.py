"""Tensors of the protocol V2, in JSON or in its binary extension: a header in JSON, followed by the tensors' bytes."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from adjobs.errors import printable, shown
from adjobs.serving.images import Source
from adjobs.serving.limits import Limits, RefusalError
from adjobs.serving.models import ServedModel
from adjobs.serving.reading import check_count, decode_base64, parse_json
from adjobs.serving.schemas import InferInput, InferRequest, TensorMetadata
from adjobs.serving.service import Predicted

HEADER_LENGTH = "Inference-Header-Content-Length"
IMAGE, PIXELS, MAP = "image", "pixels", "anomaly_map"
BINARY_SIZE = "binary_data_size"
_LENGTH = struct.Struct("<I")
_CHANNELS = 3
_REQUEST = TypeAdapter(InferRequest)


class Infer(NamedTuple):
    """A request, and the images in it."""

    request: InferRequest
    sources: list[Source]


class Output(NamedTuple):
    """A tensor of an answer: its type in the protocol, its shape, its values for JSON, and its bytes."""

    datatype: str
    values: Callable[[ServedModel, Sequence[Predicted]], np.ndarray | list[str]]


def _regions(predicted: Predicted) -> str:
    return json.dumps([list(region) for region in predicted.prediction.regions])


def _maps(predicted: Sequence[Predicted]) -> np.ndarray:
    return np.stack([np.asarray(each.prediction.anomaly_map, np.float32) for each in predicted])


OUTPUTS = {
    "score": Output("FP64", lambda model, predicted: np.array([each.prediction.score for each in predicted])),
    "decision": Output("BYTES", lambda model, predicted: [each.prediction.decision for each in predicted]),
    "threshold": Output("FP64", lambda model, predicted: np.array([each.prediction.threshold for each in predicted])),
    "regions": Output("BYTES", lambda model, predicted: [_regions(each) for each in predicted]),
    MAP: Output("FP32", lambda model, predicted: _maps(predicted)),
}
"""By name. Regions are JSON, a list of [left, top, right, bottom] for each image; maps are answered only where they are named."""


def input_metadata() -> list[TensorMetadata]:
    """The inputs, of which a request has one."""
    return [
        TensorMetadata(name=IMAGE, datatype="BYTES", shape=[-1]),
        TensorMetadata(name=PIXELS, datatype="UINT8", shape=[-1, -1, -1, _CHANNELS]),
    ]


def output_metadata(model: ServedModel) -> list[TensorMetadata]:
    """The outputs that a model has."""
    side = model.info.image_size
    return [
        TensorMetadata(name=name, datatype=OUTPUTS[name].datatype, shape=[-1, side, side] if name == MAP else [-1])
        for name in available(model)
    ]


def available(model: ServedModel) -> list[str]:
    """Names of the outputs that a model has."""
    return [name for name in OUTPUTS if name != MAP or model.info.pixel_threshold is not None]


def parse_infer(body: bytes, header_length: str | None, limits: Limits) -> Infer:
    """A request with its images.

    Args:
        body: of the request.
        header_length: bytes of its JSON, where binary tensors follow.
        limits: of requests.

    Raises:
        RefusalError: it is not what is allowed.
    """
    if header_length is None:
        head, binary = body, None
    elif header_length.isdecimal() and len(header_length) < 10 and int(header_length) <= len(body):
        head, binary = body[: int(header_length)], body[int(header_length) :]
    else:
        raise _malformed(f"{HEADER_LENGTH} is {shown(header_length)}, the request has {len(body)} bytes")
    request = parse_json(_REQUEST, head)
    tensor = request.inputs[0]
    if (tensor.name, tensor.datatype) not in ((IMAGE, "BYTES"), (PIXELS, "UINT8")):
        raise _malformed(f"input {shown(tensor.name)} of {tensor.datatype}: allowed are image of BYTES and pixels of UINT8")
    content = _binary_content(tensor, binary)
    sources = _read_files(tensor, content, limits) if tensor.datatype == "BYTES" else _read_pixels(tensor, content, limits)
    return Infer(request, sources)


def _binary_content(tensor: InferInput, binary: bytes | None) -> bytes | None:
    """The bytes of the only input; None where its values are in the JSON."""
    size = tensor.parameters.get(BINARY_SIZE)
    if size is None:
        if tensor.data is None or binary:
            raise _malformed(f"input {tensor.name} needs either data or the parameter {BINARY_SIZE}")
        return None
    if binary is None or size != len(binary) or tensor.data is not None:
        raise _malformed(f"{BINARY_SIZE} is {shown(size)}, {len(binary or b'')} bytes follow the header")
    return binary


def _read_files(tensor: InferInput, content: bytes | None, limits: Limits) -> list[Source]:
    count = math.prod(tensor.shape)
    check_count(count, limits)
    if content is None:
        data = _flat(tensor.data or [])
        if len(data) != count or not all(isinstance(text, str) for text in data):
            raise _malformed(f"input image: shape {tensor.shape} needs {count} texts in base64")
        return [decode_base64(text, index) for index, text in enumerate(data)]
    files: list[Source] = []
    place = 0
    while place < len(content):
        if place + _LENGTH.size > len(content):
            raise _malformed("input image: its bytes end within a length")
        (length,) = _LENGTH.unpack_from(content, place)
        place += _LENGTH.size + length
        if place > len(content) or len(files) == count:
            raise _malformed(f"input image: its bytes are not the {count} files that its shape says")
        files.append(content[place - length : place])
    if len(files) != count:
        raise _malformed(f"input image: its bytes hold {len(files)} files, its shape says {count}")
    return files


def _read_pixels(tensor: InferInput, content: bytes | None, limits: Limits) -> list[Source]:
    shape = [1, *tensor.shape] if len(tensor.shape) == 3 else tensor.shape
    if len(shape) != 4 or shape[3] != _CHANNELS:
        raise _malformed(f"input pixels: shape {tensor.shape} must be [height, width, 3] or [images, height, width, 3]")
    check_count(shape[0], limits)
    size = math.prod(shape)
    if content is not None:
        if size != len(content):
            raise _malformed(f"input pixels: shape {tensor.shape} needs {size} bytes, {len(content)} were sent")
        return list(np.frombuffer(content, np.uint8).reshape(shape))
    try:
        values = np.array(tensor.data)
    except ValueError:
        values = np.array([])
    if values.dtype.kind not in "iu" or values.size != size or values.min() < 0 or values.max() > np.iinfo(np.uint8).max:
        raise _malformed(f"input pixels: shape {tensor.shape} needs {size} whole numbers from 0 to 255")
    return list(values.astype(np.uint8).reshape(shape))


def _flat(data: list[Any]) -> list[Any]:
    return [item for each in data for item in (each if isinstance(each, list) else [each])]


def chosen_outputs(request: InferRequest, model: ServedModel) -> dict[str, bool]:
    """Which outputs are answered, and whether in binary.

    Raises:
        RefusalError: the model does not have one of them.
    """
    names = [output.name for output in request.outputs] or [name for name in available(model) if name != MAP]
    unknown = [name for name in names if name not in available(model)]
    if unknown:
        raise _malformed(f"output {shown(unknown[0])}: available are {', '.join(available(model))}")
    binary = bool(request.parameters.get("binary_data_output", False))
    stated = {output.name: output.parameters for output in request.outputs}
    return {name: bool(stated.get(name, {}).get("binary_data", binary)) for name in names}


def encode(values: np.ndarray | list[str]) -> bytes:
    """The bytes of a tensor in the binary extension."""
    if isinstance(values, np.ndarray):
        return values.astype(values.dtype.newbyteorder("<")).tobytes()
    texts = [text.encode() for text in values]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def _malformed(problem: str) -> RefusalError:
    return RefusalError(400, "request", printable(problem))
