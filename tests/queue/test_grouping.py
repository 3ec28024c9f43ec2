from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from adjobs.queue.grouping import Group


class Writer:
    """Doubles numbers; the first batch waits until it is released, and three is refused."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started, self.released = threading.Event(), threading.Event()

    def write(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.started.set()
        assert self.released.wait(10)
        if 3 in items:
            raise ValueError("three")
        return [2 * item for item in items]


class Submitter(threading.Thread):
    """A thread that submits one number."""

    def __init__(self, group: Group[int, int], number: int) -> None:
        super().__init__(daemon=True)
        self._group, self._number = group, number
        self.outcome: int | str | None = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._group.submit(self._number)
        except ValueError as error:
            self.outcome = str(error)


def wait_until_waiting(group: Group[int, int], count: int) -> None:
    while len(group._waiting) < count:
        threading.Event().wait(0.001)


@pytest.fixture
def writer() -> Writer:
    return Writer()


def submit_while_first_is_written(writer: Writer, numbers: list[int]) -> list[int | str | None]:
    group: Group[int, int] = Group(writer.write)
    threads = [Submitter(group, 0)]
    assert writer.started.wait(10)
    for waiting, number in enumerate(numbers, 1):
        threads.append(Submitter(group, number))
        wait_until_waiting(group, waiting)
    writer.released.set()
    for thread in threads:
        thread.join(10)
    assert group.submit(7) == 14
    return [thread.outcome for thread in threads]


def test_submit_items_that_wait_are_one_batch_in_their_order(writer):
    assert submit_while_first_is_written(writer, [1, 2, 4]) == [0, 2, 4, 8]
    assert writer.batches == [[0], [1, 2, 4], [7]]


def test_submit_item_that_is_refused_costs_the_others_nothing(writer):
    assert submit_while_first_is_written(writer, [1, 3, 4]) == [0, 2, "three", 8]
    assert writer.batches == [[0], [1, 3, 4], [1], [3], [4], [7]]


def test_submit_many_threads_each_get_their_own_result(writer):
    writer.released.set()
    group: Group[int, int] = Group(writer.write)
    threads = [Submitter(group, number) for number in range(100) if number != 3]
    for thread in threads:
        thread.join(10)
    assert [thread.outcome for thread in threads] == [2 * number for number in range(100) if number != 3]
    assert sorted(number for batch in writer.batches for number in batch) == [number for number in range(100) if number != 3]
