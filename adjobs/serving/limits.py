"""What one request, and all requests together, may take of the server."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adjobs.errors import ServerError

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes:
        max_body: bytes of a request.
        max_images: of a request.
        max_pixels: of an image, before it is decoded.
        max_queue: images, and requests, that are read, wait or are computed at a time.
        max_batch: images that are computed at once, of one model.
        timeout: seconds from the head of a request to its answer.
    """

    max_body: int = 64 * MIB
    max_images: int = 16
    max_pixels: int = 50_000_000
    max_queue: int = 256
    max_batch: int = 16
    timeout: float = 10.0

    def __post_init__(self) -> None:
        if self.max_images > self.max_queue:
            problem = f"{self.max_images} images of a request do not fit into a queue of {self.max_queue}"
            raise ServerError(f"--max-images, --max-queue: {problem}; raise --max-queue, or lower --max-images")

    @property
    def max_buffered(self) -> int:
        """Bytes of all bodies that are in memory at a time."""
        return 8 * self.max_body


class RefusalError(Exception):
    """A request is not answered as it wishes.

    Attributes:
        status: of HTTP.
        reason: a word for the metrics.
        message: one line for the client, without anything of this machine.
        retry_after: seconds after which it may try again; None: the same request will be refused again.
        index: of the image that is at fault, from 0.
    """

    def __init__(
        self, status: int, reason: str, message: str, *, retry_after: float | None = None, index: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.index = status, reason, message, index
        self.retry_after = None if retry_after is None else max(1, min(60, math.ceil(retry_after)))

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    @property
    def content(self) -> dict[str, str | int]:
        """Of the answer."""
        return {"error": self.message} | ({} if self.index is None else {"index": self.index})


def late() -> RefusalError:
    """The time of a request is over."""
    return RefusalError(503, "late", "the images could not be predicted in time; try again later", retry_after=5)


def too_large(limits: Limits) -> RefusalError:
    """The body of a request is."""
    return RefusalError(413, "too large", f"the request is larger than {limits.max_body} bytes; send fewer or smaller images")


def not_ready(message: str = "the model is being loaded; try again") -> RefusalError:
    """No model is in force yet, or no longer."""
    return RefusalError(503, "not ready", message, retry_after=5)
