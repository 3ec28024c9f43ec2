"""Batches that are packed and copied to the device on a thread while the ones before them are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

from adjobs import devices
from adjobs.data.packing import PackedBatch

Item = TypeVar("Item")

AHEAD = 3  # batches in preparation, so that one that takes longer than the others delays nobody


def prefetch(
    pack: Callable[[Item], PackedBatch], items: Iterable[Item], device: torch.device
) -> Generator[tuple[Item, PackedBatch], None, None]:
    """Pack batches ahead of their use.

    One thread does it, in order, so that what ``pack`` remembers from one item to the next is not shared. An error of ``pack`` is
    raised where its batch would have come. When the iterator is closed, what is in preparation is waited for.

    Args:
        pack: gives the batch of an item, in main memory.
        items: of which some more are taken than are yielded.
        device: where the buffers go.

    Yields:
        Each item with its batch on the device.
    """
    stream, remaining = devices.side_stream(device), iter(items)

    def prepare(item: Item) -> tuple[devices.Upload, PackedBatch]:
        packed = pack(item)
        return devices.Upload(packed.buffer, device, stream), packed

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        queue: deque[tuple[Item, Future[tuple[devices.Upload, PackedBatch]]]] = deque()
        try:
            queue.extend((item, thread.submit(prepare, item)) for item in islice(remaining, AHEAD))
            while queue:
                item, future = queue.popleft()
                upload, packed = future.result()
                queue.extend((following, thread.submit(prepare, following)) for following in islice(remaining, 1))
                yield item, packed._replace(buffer=upload.result())
        finally:
            for _, future in queue:
                future.cancel()
