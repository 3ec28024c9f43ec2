from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adjobs.queue.states import JobState
from tests.helpers.queue import RunningQueue


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[RunningQueue]:
    with RunningQueue(tmp_path) as queue:
        yield queue


def read(queue: RunningQueue) -> dict[str, float]:
    """Values by name and labels."""
    request = Request(f"{queue.url}/metrics", headers={"Authorization": f"Bearer {queue.token('prometheus')}"})
    with urlopen(request) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples]
    return {sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value for sample in samples}


def test_metrics_of_an_empty_queue_are_zeros(queue):
    values = read(queue)
    assert [values[f"adjobs_jobs {state}"] for state in JobState] == [0.0] * len(JobState)
    assert [values[f"adjobs_jobs_ended_total {state}"] for state in ("done", "failed", "stopped")] == [0.0] * 3
    names = ("adjobs_longest_wait_seconds", "adjobs_attempts_lost_total", "adjobs_images_per_second", "adjobs_slots_held")
    assert [values[name] for name in names] == [0.0] * 4
    assert values["adjobs_waiting_seconds_count"] == values["adjobs_running_seconds_count"] == 0.0
    assert values["adjobs_slots"] == 2.0
    assert values["adjobs_schedules active"] == values["adjobs_schedules paused"] == 0.0


def test_metrics_follow_what_the_jobs_do(queue):
    for _ in range(3):
        queue.client().submit([queue.request(force=True)])
    first, second = (queue.store.claim("one", 2, 30) for _ in range(2))
    queue.store.move(first, JobState.RUNNING, "running")
    queue.store.note(first, progress={"stage": "distil", "done": 1, "total": 2, "loss": None, "images_per_s": 120.5})
    queue.store.move(second, JobState.FAILED, "out of memory")
    queue.now += 12
    values = read(queue)
    assert (values["adjobs_jobs queued"], values["adjobs_jobs running"], values["adjobs_jobs failed"]) == (1, 1, 1)
    assert (values["adjobs_slots_held"], values["adjobs_images_per_second"]) == (1, 120.5)
    assert values["adjobs_dispatcher_step_age_seconds"] == 12
    assert values["adjobs_jobs_ended_total failed"] == 1
    assert values["adjobs_waiting_seconds_bucket 10"] == values["adjobs_waiting_seconds_bucket +Inf"] == 2
    assert values["adjobs_running_seconds_count"] == 1
