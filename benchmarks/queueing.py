"""What the queue costs: submitting, dispatching, listing, memory, and taking jobs over from a dispatcher that was killed.

    python benchmarks/queueing.py [--postgres postgresql+pg8000://user:password@host/postgres] [--jobs 1000] [--many 10000]

No Ray: a small server stands for its head, whose drivers end when they are told to. Submissions over HTTP go through everything
that the queue does with them: token, checks, a list of the data's files, the head's nodes, the transaction.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
from queue_helpers import DispatcherProcess, Head, InstantCluster, Jobs, empty_database, free_port, make_token, wait_until
from report import machine, table, write_result

from adjobs.queue.client import QueueClient
from adjobs.queue.dispatcher import LEASE_SECONDS, Dispatcher, Limits
from adjobs.queue.folder import JobFolder
from adjobs.queue.states import JobState
from adjobs.queue.store import JobStore
from adjobs.storage import open_store

SUBMITTERS = 8
SLOTS = 64
DISPATCHED = 4
"""One job of so many is dispatched as well."""

Submit = Callable[[int], object]
Row = TypeVar("Row")


class Bench:
    """Where all is measured: a folder, a head, jobs, and how many of them."""

    def __init__(self, root: Path, head: Head, postgres: str | None, count: int, many: int) -> None:
        self.root, self.head, self.jobs = root, head, Jobs(root)
        self.count, self.many = count, many
        self.servers = {"SQLite": None, **({"PostgreSQL": postgres} if postgres else {})}

    @contextmanager
    def database(self, kind: str) -> Iterator[tuple[str, JobStore]]:
        """An empty database: its address, and a store of it."""
        with empty_database(self.servers[kind], self.root) as database:
            store = JobStore(database)
            try:
                yield database, store
            finally:
                store.close()

    @contextmanager
    def dispatcher(self, database: str, slots: int) -> Iterator[DispatcherProcess]:
        """A dispatcher that is killed afterwards."""
        process = DispatcherProcess(self.root, database, self.head, slots)
        try:
            yield process
        finally:
            process.kill()


# 1. Submitting


def store_submitter(database: str, jobs: Jobs) -> Submit:
    """Writes to the database."""
    store = JobStore(database)
    return lambda number: store.submit(jobs.new(number))


def http_submitter(url: str, token: str, jobs: Jobs) -> Submit:
    """Asks the queue."""
    client = QueueClient(url, token)
    return lambda number: client.submit([jobs.request(number)])


def submit_all(
    make: Callable[..., Submit], own: tuple[Any, ...], numbers: list[int], pause: float, barrier: Any, out: Any
) -> None:
    """The process of one submitter: jobs one by one, from the moment that all are ready."""
    submit, rng, seconds = make(*own), np.random.default_rng(numbers), []
    barrier.wait()
    for number in numbers:
        time.sleep(rng.exponential(pause) if pause else 0)
        started_at = time.perf_counter()
        submit(number)
        seconds.append(time.perf_counter() - started_at)
    out.put(seconds)


def latencies(make: Callable[..., Submit], own: Sequence[tuple[Any, ...]], count: int, pause: float = 0.0) -> list[str]:
    """Jobs per second, and median, p99 and maximum of the milliseconds of a submission."""
    context = multiprocessing.get_context("fork")  # no imports beside the measurement
    barrier, out = context.Barrier(len(own) + 1), context.Queue()
    shares = [share.tolist() for share in np.array_split(np.arange(count), len(own))]
    arguments = [(make, mine, share, pause, barrier, out) for mine, share in zip(own, shares, strict=True)]
    processes = [context.Process(target=submit_all, args=values, daemon=True) for values in arguments]
    for process in processes:
        process.start()
    barrier.wait()
    started_at = time.perf_counter()
    milliseconds = 1000 * np.concatenate([out.get(timeout=120) for _ in processes])
    rate = count / (time.perf_counter() - started_at)
    return [f"{rate:.0f}", *(f"{np.percentile(milliseconds, share):.1f}" for share in (50, 99, 100))]


def submit_rows(bench: Bench, kind: str) -> Iterator[list[str]]:
    """Latency of submissions: on the store, and over HTTP one by one, by eight at a set rate, and by eight without a pause."""
    with bench.database(kind) as (database, store):
        yield [kind, "store", "8", "any", *latencies(store_submitter, [(database, bench.jobs)] * SUBMITTERS, bench.count)]
        check(len(store.positions()) == bench.count, "every submitted job is in the store")
    bench.head.hold(True)  # the first job runs on
    for submitters, pause, rate in ((1, 0.0, "any"), (SUBMITTERS, SUBMITTERS / 20, "20/s"), (SUBMITTERS, 0.0, "any")):
        with bench.database(kind) as (database, store), bench.dispatcher(database, 1) as dispatcher:
            own = [(dispatcher.url, make_token(store, f"user{i}"), bench.jobs) for i in range(submitters)]
            yield [kind, "HTTP", str(submitters), rate, *latencies(http_submitter, own, bench.count, pause)]
            check(len(store.select()) == bench.count, "every submitted job is in the store")
    bench.head.hold(False)


# 2. Dispatching


def dispatch_row(bench: Bench, kind: str, slots: int) -> list[str]:
    """Milliseconds of the dispatcher for a job, from its submission to its end, when its driver takes no time."""
    count = bench.count // DISPATCHED
    with bench.database(kind) as (_, store):
        cluster = InstantCluster()
        folder = bench.root / "artifacts" / kind / str(slots)
        dispatcher = Dispatcher("d", store, cluster, lambda job: JobFolder(open_store(folder / job)), Limits(slots), {})
        started_at = time.perf_counter()
        names = [store.submit(bench.jobs.new(number))[0].id for number in range(count)]
        submitted_at = time.perf_counter()
        while store.select((JobState.QUEUED, JobState.STARTING, JobState.RUNNING), limit=1):
            dispatcher.step()
        ended_at = time.perf_counter()
        check(cluster.submitted == [f"{name}-1" for name in names], "every job was started once, in the order of submission")
        check(len(store.select((JobState.DONE,))) == count, "every job is done")
    milliseconds = (1000 * (submitted_at - started_at) / count, 1000 * (ended_at - submitted_at) / count)
    return [kind, str(slots), *(f"{value:.1f}" for value in milliseconds)]


# 3. and 4. Many jobs: memory and listing


def many_jobs(bench: Bench, kind: str) -> tuple[list[list[str]], list[list[str]]]:
    """Memory of a dispatcher while it runs many jobs, and how long the questions take that read them all."""
    with bench.database(kind) as (database, store), bench.dispatcher(database, SLOTS) as dispatcher:
        token = make_token(store, "ann")
        client = QueueClient(dispatcher.url, token)
        client.submit([bench.jobs.request(2**31)])
        wait_until(lambda: not store.select((JobState.QUEUED, JobState.STARTING), limit=1))
        memory, done, started_at = [[kind, "1", f"{dispatcher.memory_mib():.0f}", "-"]], 1, time.perf_counter()
        while done < bench.many:
            target = min(bench.many, max(10 * done, 1000) if done < 1000 else done + bench.many // 4)
            for first in range(done, target, 100):
                store.submit(*(bench.jobs.new(number) for number in range(first, min(first + 100, target))))
            wait_until(lambda: not store.positions(), 900)
            done = target
            memory.append([kind, str(done), f"{dispatcher.memory_mib():.0f}", f"{time.perf_counter() - started_at:.0f}"])
        wait_until(lambda: not store.select((JobState.STARTING, JobState.RUNNING), limit=1))
        times = list(list_rows(bench, kind, "ended", client, dispatcher, token))
        memory.append([kind, f"{done}, listed", f"{dispatcher.memory_mib():.0f}", "-"])
    with bench.database(kind) as (database, store), bench.dispatcher(database, 1) as dispatcher:
        token = make_token(store, "ann")
        bench.head.hold(True)
        for first in range(0, bench.many, 100):
            store.submit(*(bench.jobs.new(number) for number in range(first, first + 100)))
        times += list_rows(bench, kind, "queued", QueueClient(dispatcher.url, token), dispatcher, token)
        bench.head.hold(False)
    return memory, times


def list_rows(
    bench: Bench, kind: str, state: str, client: QueueClient, dispatcher: DispatcherProcess, token: str
) -> Iterator[list[str]]:
    """Seconds of the questions that many jobs make slow."""
    latest = client.select(limit=1)[0]["id"]
    check(len(client.select(limit=bench.many)) == bench.many, "all jobs are listed")
    questions: dict[str, Callable[[], object]] = {
        "HTTP: list of all": lambda: client._call("GET", f"/api/jobs?limit={bench.many}"),
        "HTTP: list of 100": lambda: client.select(limit=100),
        "HTTP: one job": lambda: client.get(latest),
        "HTTP: metrics": lambda: dispatcher.read("/metrics", token),
    }
    path = bench.root / "token"
    path.write_text(token)
    environment = {"ADJOBS_QUEUE_URL": dispatcher.url, "ADJOBS_QUEUE_TOKEN_PATH": str(path), "ADJOBS_HOME": str(bench.root)}
    for limit in (bench.many, 100):
        command = [sys.executable, "-m", "adjobs", "jobs", "list", "--limit", str(limit)]
        questions[f"`adjobs jobs list --limit {limit}`"] = lambda command=command: subprocess.run(
            command, env=environment, check=True, capture_output=True
        )
    for title, ask in questions.items():
        seconds = []
        for _ in range(5):
            started_at = time.perf_counter()
            ask()
            seconds.append(time.perf_counter() - started_at)
        yield [kind, state, title, f"{np.median(seconds):.3f}", f"{max(seconds):.3f}"]


# 5. Adopting


def adopt_row(bench: Bench, kind: str, is_other: bool) -> list[str]:
    """Seconds from the death of a dispatcher until all its running jobs, whose drivers end then, are recorded as done."""
    bench.head.hold(True)
    with bench.database(kind) as (database, store), bench.dispatcher(database, 8) as dispatcher:
        store.submit(*(bench.jobs.new(number) for number in range(8)))
        wait_until(lambda: len(store.select((JobState.RUNNING,))) == 8)
        dispatcher.kill()
        bench.head.hold(False)
        killed_at = time.perf_counter()
        dispatcher.start(free_port() if is_other else dispatcher.port)
        answered_at = time.perf_counter()
        wait_until(lambda: len(store.select((JobState.DONE,))) == 8, 2 * LEASE_SECONDS)
        done_at = time.perf_counter()
        check(len(bench.head.submitted()) == len(set(bench.head.submitted())), "no job was started twice")
    title = "another, with a name of its own" if is_other else "the same, started again"
    return [kind, title, f"{answered_at - killed_at:.1f}", f"{done_at - killed_at:.1f}"]


def check(holds: bool, what: str) -> None:
    """End unless it holds."""
    if not holds:
        raise SystemExit(f"does not hold: {what}")


def noted(row: Row) -> Row:
    """A row, shown as soon as it is measured."""
    print(row, file=sys.stderr, flush=True)
    return row


def run_all(bench: Bench) -> list[str]:
    """The page."""
    submit = [noted(row) for kind in bench.servers for row in submit_rows(bench, kind)]
    dispatch = [noted(dispatch_row(bench, kind, slots)) for kind in bench.servers for slots in (1, 8)]
    adopt = [noted(adopt_row(bench, kind, is_other)) for kind in bench.servers for is_other in (False, True)]
    many = [noted(many_jobs(bench, kind)) for kind in bench.servers]
    memory, times = ([row for rows in tables for row in rows] for tables in zip(*many, strict=True))
    return [
        f"## Submitting {bench.count} jobs",
        table("| database | through | submitters | jobs | jobs/s | median ms | p99 ms | longest ms |", submit, 4),
        f"## Dispatching {bench.count // DISPATCHED} jobs whose drivers take no time, in one thread",
        table("| database | slots | ms to submit a job | ms to start, follow and end it |", dispatch, 1),
        "Each was started once, in the order of submission.",
        "## Taking over 8 running jobs after kill -9 of their dispatcher",
        table("| database | by | answers after s | all followed after s |", adopt, 2),
        f"A dispatcher with another name waits until the lease of the dead one is over, {LEASE_SECONDS:.0f} s.",
        f"## Memory of the dispatcher's process, {SLOTS} slots",
        table("| database | jobs done | resident MiB | seconds in all |", memory),
        f"## Questions to a queue of {bench.many} jobs, five times each",
        table("| database | jobs | question | median s | longest s |", times, 3),
    ]


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgres", help="address of a database on a PostgreSQL server; others are made beside it and removed")
    parser.add_argument("--jobs", type=int, default=1000, help="jobs to submit and dispatch")
    parser.add_argument("--many", type=int, default=10_000, help="jobs of the long queue, a multiple of 100")
    parser.add_argument("--name", default="queue", help="name of the file in results/")
    arguments = parser.parse_args()
    head = Head()
    with TemporaryDirectory(prefix="adjobs-bench-") as folder:
        bench = Bench(Path(folder), head, arguments.postgres, arguments.jobs, arguments.many)
        write_result(arguments.name, "The queue", machine(torch.device("cpu")), run_all(bench))
    head.close()


if __name__ == "__main__":
    main()
