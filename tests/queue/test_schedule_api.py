"""Schedules over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adjobs.errors import QueueError
from adjobs.queue.states import JobState
from adjobs.queue.tokens import Role
from tests.helpers.queue import RunningQueue
from tests.helpers.schedules import empty_dataset, retraining


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[RunningQueue]:
    with RunningQueue(tmp_path) as queue:
        empty_dataset(tmp_path / "line-3")
        yield queue


def request(queue: RunningQueue, **values: Any) -> dict[str, Any]:
    document = retraining(queue.root / "line-3")
    return {"name": "nightly", "cron": "0 2 * * *", "time_zone": "Europe/Berlin", "document": document, **values}


def test_save_and_list_show_what_comes_next(queue):
    client = queue.client()
    saved = client.save_schedule(request(queue))
    expected = {"name": "nightly", "user": "ann", "model": "line-3", "cron": "0 2 * * *", "paused": False, "last_job": None}
    assert expected.items() <= saved.items()
    assert (saved["replaced"], 0 < saved["next_at"] - time.time() <= 25 * 3600) == (False, True)
    assert client.save_schedule(request(queue, cron="0 3 * * *"))["replaced"]
    (listed,) = client.schedules()
    assert (listed["cron"], "document" in listed) == ("0 3 * * *", False)


def test_run_pause_resume_and_remove(queue):
    client = queue.client()
    client.save_schedule(request(queue))
    job = client.run_schedule("nightly")
    assert job == {"id": job["id"], "created": True, "position": 1}
    assert client.run_schedule("nightly")["created"] is False
    (listed,) = client.schedules()
    assert (listed["last_job"], listed["last_state"], listed["reason"]) == (
        job["id"],
        "queued",
        f"job {job['id']}, the pass before, has not ended; there is no second one",
    )
    queue.store.move(queue.store.claim("one", 1, 30), JobState.DONE, "not due")
    assert client.schedules()[0]["last_state"] == "done"
    paused = client.pause_schedule("nightly")
    assert (paused["paused"], paused["next_at"]) == (True, None)
    assert client.resume_schedule("nightly")["next_at"] is not None
    assert client.remove_schedule("nightly")["name"] == "nightly"
    assert (client.schedules(), client.get(job["id"])["state"]) == ([], "done")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cron": "0 25 * * *"}, "got '25' as hour; allowed are 0-23"),
        ({"time_zone": "Europe/Berln"}, "did you mean 'Europe/Berlin'"),
        ({"document": {"model": "line-3"}}, "job 'nightly': dataset: missing"),
        (
            {"document": retraining(Path("/nowhere"))},
            "job 'nightly', seen from the queue's machine: /nowhere: is not a data set with versions",
        ),
        ({"name": "night/ly"}, "^name: "),
        ({"colour": "red"}, "^colour: "),
    ],
)
def test_save_what_is_wrong_is_refused_in_one_line(queue, values, message):
    with pytest.raises(QueueError, match=message) as error:
        queue.client().save_schedule(request(queue, **values))
    assert "\n" not in str(error.value)
    assert queue.client().schedules() == []


def test_schedule_of_another_is_changed_by_administrators_alone(queue):
    queue.client("ann").save_schedule(request(queue))
    other = queue.client("bob")
    changes = (other.pause_schedule, other.resume_schedule, other.run_schedule, other.remove_schedule)
    for change in changes:
        with pytest.raises(QueueError, match="schedule nightly is ann's; only they and administrators can change it"):
            change("nightly")
    with pytest.raises(QueueError, match="is ann's; only they and administrators can change it; use another name"):
        other.save_schedule(request(queue))
    assert queue.client("root", Role.ADMIN).pause_schedule("nightly")["user"] == "ann"
    viewer = queue.client("eve", Role.VIEWER)
    assert len(viewer.schedules()) == 1
    with pytest.raises(QueueError, match="eve is a viewer, who cannot change jobs"):
        viewer.save_schedule(request(queue, name="other"))


def test_unknown_schedule_is_one_line(queue):
    client = queue.client()
    for name in ("weekly", "../jobs", "", "x" * 200):
        for change in (client.pause_schedule, client.resume_schedule, client.run_schedule, client.remove_schedule):
            with pytest.raises(QueueError, match="no such schedule; list them with 'adjobs retrain list'"):
                change(name)


def test_submit_retrainings_of_a_model_are_one_job_even_if_forced(queue):
    client = queue.client()
    values = {"verb": "retrain", "document": retraining(queue.root / "line-3")}
    (first,) = client.submit([queue.request(**values)])
    (again,) = client.submit([queue.request(force=True, **values)])
    assert (first["created"], again["created"], again["id"]) == (True, False, first["id"])
    (listed,) = client.select()
    assert (listed["verb"], listed["method"], listed["data"]) == ("retrain", "cdo", str(queue.root / "line-3"))


def test_preflight_of_a_retraining_names_what_only_the_client_has(queue):
    document = retraining(queue.root / "nowhere", inbox="/nor/here")
    (checked,) = queue.client().preflight([queue.request(verb="retrain", document=document)])["jobs"]
    assert (checked["missing"], checked["estimate"]) == ([str(queue.root / "nowhere"), "/nor/here"], None)
