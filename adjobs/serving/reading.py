"""Bodies of requests: bounded while they arrive, and read where they keep nobody waiting."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from adjobs.errors import printable
from adjobs.serving.limits import Limits, RefusalError, too_large
from adjobs.serving.schemas import PredictRequest
from adjobs.serving.service import PredictionService

MAX_JSON_VALUES = 2_000_000
"""Of a body in JSON: each takes many times its bytes once it is read. Large arrays come as binary tensors."""

OPTIONS = ("anomaly_map", "overlay")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}

Result = TypeVar("Result")


class WantedPredictions(NamedTuple):
    """What a request asks for: images, and what is to be answered beside decisions."""

    images: list[bytes]
    anomaly_map: bool = False
    overlay: bool = False


def declared_size(request: Request, limits: Limits) -> int:
    """Bytes of a body as its head says; of one without a length the most that it may have."""
    text = request.headers.get("content-length", "")
    if not text.isdecimal():
        return limits.max_body
    return int(text) if len(text) <= len(str(limits.max_body)) else limits.max_body + 1


async def read_predictions(request: Request, service: PredictionService) -> WantedPredictions:
    """The images of a request in JSON or as a form.

    Raises:
        RefusalError: it is too large, or something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request, service.limits)
    if kind == "application/json":
        body = await read_body(request, service.limits)
        return await service.in_thread(lambda: _parse_json(body, service.limits))
    raise RefusalError(415, "request", "the content type must be multipart/form-data or application/json")


async def read_body(request: Request, limits: Limits) -> bytes:
    """A whole body.

    Raises:
        RefusalError: it is too large, or compressed.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusalError(415, "request", "compressed requests are not read; send the request without Content-Encoding")
    return b"".join([chunk async for chunk in _chunks(request, limits)])


async def until_disconnect(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of some work on a request whose body has been read; cancelled when its client leaves.

    Raises:
        ClientDisconnect: it has left.
    """
    task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for each in (task, leaving):
            each.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await each


def parse_json(model: TypeAdapter[Result], body: bytes) -> Result:
    """A body in JSON.

    Raises:
        RefusalError: it is not what is allowed, in one line.
    """
    refuse_many_values(body)
    try:
        return model.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the request"
        raise RefusalError(422, "request", printable(f"{place}: {first['msg']}")[:300]) from error


def refuse_many_values(body: bytes) -> None:
    """Raise RefusalError for JSON that would take far more memory than its bytes."""
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise RefusalError(413, "too large", f"the request has more than {MAX_JSON_VALUES:,} values; send arrays as binary data")


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _chunks(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limits.max_body:
            raise too_large(limits)
        yield chunk


class _FormParser(MultiPartParser):
    spool_max_size = 2**40  # in memory: the body is bounded, and nothing of an image is left on a disk
    is_complete = False

    def on_end(self) -> None:
        """The last boundary has come; a form that ends before it has lost an image."""
        self.is_complete = True


async def _read_form(request: Request, limits: Limits) -> WantedPredictions:
    parser = _FormParser(
        request.headers,
        _chunks(request, limits),
        max_files=limits.max_images,
        max_fields=len(OPTIONS) + 1,
        max_part_size=1000,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise _refuse_form(error, limits) from error
    except (KeyError, ValueError, LookupError) as error:
        raise RefusalError(400, "request", "the form cannot be read; send multipart/form-data with a boundary") from error
    if not parser.is_complete:
        raise RefusalError(400, "request", "the form is cut off before its last boundary; send it again")
    images, options = [], dict.fromkeys(OPTIONS, False)
    for name, value in form.multi_items():
        if name == "image" and isinstance(value, UploadFile):
            images.append(await value.read())
        elif name in options and isinstance(value, str) and value.lower() in _TRUTH:
            options[name] = _TRUTH[value.lower()]
        else:
            allowed = "'image' with a file (repeated for several), 'anomaly_map' and 'overlay' with true or false"
            raise RefusalError(422, "request", f"field {printable(repr(name))[:80]}: allowed are {allowed}")
    await form.close()
    return _checked(WantedPredictions(images, **options), limits)


def _refuse_form(error: MultiPartException, limits: Limits) -> RefusalError:
    if error.message.startswith("Too many files"):
        return RefusalError(413, "too large", f"more than {limits.max_images} images; send several requests")
    return RefusalError(400, "request", printable(f"the form cannot be read ({error.message[:200]})"))


_PREDICT_REQUEST = TypeAdapter(PredictRequest)


def _parse_json(body: bytes, limits: Limits) -> WantedPredictions:
    wanted = parse_json(_PREDICT_REQUEST, body)
    images = [decode_base64(text, index) for index, text in enumerate(wanted.images)]
    return _checked(WantedPredictions(images, wanted.anomaly_map, wanted.overlay), limits)


def decode_base64(text: str, index: int) -> bytes:
    """The content of an image file.

    Raises:
        RefusalError: it is something else, such as a path.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        problem = "is not base64; send the content of the file"
        raise RefusalError(422, "request", f"image {index}: {problem}", index=index) from error


def _checked(wanted: WantedPredictions, limits: Limits) -> WantedPredictions:
    check_count(len(wanted.images), limits)
    return wanted


def check_count(count: int, limits: Limits) -> None:
    """Raise RefusalError for no images, or too many."""
    if not count:
        raise RefusalError(422, "request", "no image; send 1 or more")
    if count > limits.max_images:
        raise RefusalError(413, "too large", f"{count} images, the maximum is {limits.max_images}; send several requests")
