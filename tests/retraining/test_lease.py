"""The lease on a retraining: one process works, a dead one does not block."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from adjobs.errors import SupersededError
from adjobs.retraining.lease import HeldError, hold, last_number
from adjobs.storage import open_store

ELSEWHERE = "another-machine:1:0"


@pytest.fixture
def store(tmp_path: Path):
    return open_store(str(tmp_path))


def write_lease(store, number: int, until: float, driver: str = ELSEWHERE) -> None:
    store.write(f"leases/{number:08}.json", json.dumps({"driver": driver, "until": until}).encode())


def test_hold_refuses_a_second_holder_and_names_the_first(store):
    with hold(store), pytest.raises(HeldError, match=f"another process \\({socket.gethostname()}:"), hold(store):
        pass


def test_hold_is_free_again_after_the_block(store):
    with hold(store) as first:
        pass
    with hold(store) as second:
        assert (first.number, second.number) == (1, 2)


def test_hold_takes_over_from_a_process_of_this_machine_that_is_dead(store):
    write_lease(store, 1, 1100, f"{socket.gethostname()}:{2**22 + 1}:0")
    with hold(store, clock=lambda: 1000, seconds=100) as held:
        assert held.number == 2


@pytest.mark.parametrize("now", [1200.1, 100.0])
def test_hold_takes_over_when_the_time_is_up_or_the_clock_was_set_back(store, now):
    write_lease(store, 1, 1200)
    with hold(store, clock=lambda: now, seconds=100):
        pass


def test_hold_waits_for_another_machine_as_long_as_its_lease_lasts(store):
    write_lease(store, 1, 1050)
    with pytest.raises(HeldError, match="another-machine"), hold(store, clock=lambda: 1000, seconds=100):
        pass


def test_hold_takes_a_damaged_lease_for_one_that_is_over(store):
    store.write("leases/00000001.json", b"[")
    with hold(store) as held:
        assert held.number == 2


def test_hold_lets_one_of_many_at_once_through(store):
    taken, refused, barrier, release = [], [], threading.Barrier(8), threading.Event()

    def work() -> None:
        barrier.wait()
        try:
            with hold(store) as held:
                taken.append(held.number)
                release.wait(10)
        except HeldError:
            refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join(0.5)
    release.set()
    for thread in threads:
        thread.join()
    assert (taken, len(refused)) == ([1], 7)


def test_hold_renews(store):
    times = iter(range(1000, 100_000, 10))
    with hold(store, clock=lambda: next(times), seconds=0.2):
        before = json.loads(store.read("leases/00000001.json"))["until"]
        deadline = threading.Event()
        deadline.wait(0.3)
        assert json.loads(store.read("leases/00000001.json"))["until"] > before


def test_ensure_current_raises_once_somebody_has_taken_over(store):
    with hold(store) as held:
        held.ensure_current()
        write_lease(store, 2, 1e12)
        with pytest.raises(SupersededError, match="taken over"):
            held.ensure_current()


def test_hold_keeps_few_objects(store):
    for _ in range(5):
        with hold(store):
            pass
    assert last_number(store) == 5
    assert len(store.list("leases")) <= 4
