from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from adjobs.errors import ClusterError, JobError, QueueError
from adjobs.queue import access, admission, tokens
from adjobs.queue.admission import admit
from adjobs.queue.client import MAX_BODY, QueueClient
from adjobs.queue.folder import JobSpec
from adjobs.queue.tokens import Role
from tests.helpers.queue import RunningQueue


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[RunningQueue]:
    with RunningQueue(tmp_path) as queue:
        yield queue


def test_submit_equal_job_with_equal_data_is_one(queue, monkeypatch):
    monkeypatch.setattr(admission, "DATA_SECONDS", 0)
    client = queue.client()
    (first,) = client.submit([queue.request()])
    (again,) = client.submit([queue.request(priority=3)])
    assert (first["created"], first["position"], again) == (True, 1, {"id": first["id"], "created": False, "position": 1})
    (forced,) = client.submit([queue.request(force=True)])
    (queue.data / "good" / "another.png").write_bytes(b"")
    (changed,) = client.submit([queue.request()])
    assert len({first["id"], forced["id"], changed["id"]}) == 3


def test_submit_forced_job_sent_twice_is_one_and_no_other_user_can_take_its_place(queue):
    client, request = queue.client(), queue.request(force=True)
    (first,), (again,) = client.submit([request]), client.submit([request])
    assert again == {"id": first["id"], "created": False, "position": 1}
    assert queue.client("bob").submit([request])[0]["created"]


def test_select_and_get_show_what_a_job_does(queue):
    client = queue.client()
    (job,) = client.submit([queue.request()])
    (listed,) = client.select(["queued"])
    expected = {"id": job["id"], "state": "queued", "user": "ann", "method": "cdo", "verb": "train", "position": 1, "attempt": 0}
    assert expected.items() <= listed.items()
    assert client.select(["done"]) == client.select(user="bob") == []
    shown = client.get(job["id"][:6])
    assert shown["explanation"] == "the next one; a slot is free; it starts within seconds"
    queue.now += 100
    late = "the next one; a slot is free, but the dispatcher has been in one step for 100 s; its log may say why"
    assert client.get(job["id"])["explanation"] == late
    assert [change["state"] for change in shown["history"]] == ["queued"]


def test_why_names_slots_predecessors_and_a_silent_head(queue):
    client = queue.client()
    first, second, third = (job["id"] for job in client.submit([queue.request(force=True) for _ in range(3)]))
    (after,) = client.submit([queue.request(force=True, after=[third])])
    for _ in range(2):
        queue.store.claim("one", 2, 30)
    assert client.get(third)["explanation"] == f"the next one; 2 of 2 slots are held by {second}, {first}"
    assert client.get(after["id"])["explanation"] == f"waits for {third}, which must be done before it"
    queue.cluster.is_down = True
    assert client.get(third)["explanation"] == "Ray at http://head: does not answer"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"document": {"method": "cd", "data": {"uri": "x"}}}, "unknown method 'cd'"),
        ({"document": {"method": "cdo", "data": {"uri": "/no/such/folder"}}}, "'/no/such/folder': nothing is there"),
        ({"verb": "tune"}, "a search needs a space"),
        ({"verb": "sing"}, "jobs.1.verb: Input should be 'train', 'tune', 'compare' or 'retrain'"),
        ({"name": "a\nb"}, "jobs.1.name: String should match pattern"),
        ({"priority": 5000}, "jobs.1.priority: Input should be less than or equal to 1000"),
        ({"priority": "5"}, "jobs.1.priority: Input should be a valid integer"),
        ({"after": ["nope"]}, "--after: job 'nope': no such job"),
        ({"other": 1}, "jobs.1.other: Extra inputs are not permitted"),
    ],
)
def test_submit_what_cannot_be_is_refused_in_one_line_and_nothing_is_queued(queue, change, message):
    with pytest.raises(QueueError) as error:
        queue.client().submit([queue.request(force=True), queue.request(**change)])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert queue.store.select() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": "many"}, "jobs.0.options.trials: Input should be a valid integer"),
        ({"metrics": ["beauty:max"]}, "--metric 'beauty:max': unknown metric of a cdo job"),
        ({"metrics": None}, "jobs.0.options.metrics: Input should be a valid list"),
        ({"speed": 1}, "jobs.0.options.speed: Extra inputs are not permitted"),
    ],
)
def test_submit_options_that_no_search_has_are_refused(queue, options, message):
    space = {"method": "cdo", "parameters": {"params.gamma": {"uniform": [1, 3]}}}
    with pytest.raises(QueueError) as error:
        queue.client().submit([queue.request(verb="tune", space=space, options=options)])
    assert message in str(error.value)


def test_submit_training_with_options_of_a_search_is_refused(queue):
    with pytest.raises(QueueError, match="got a search space or options of a search for a training; submit it as a search"):
        queue.client().submit([queue.request(options={"trials": 3})])


@pytest.mark.parametrize("number", ["NaN", "1e999"])
def test_submit_number_that_json_cannot_hold_is_refused(queue, number):
    """Python reads it; but then neither a driver's specification nor an answer could be written."""
    body = json.dumps({"jobs": [queue.request(verb="tune", options={"time_budget_s": 7777})]}).replace("7777", number)
    headers = {"Authorization": f"Bearer {queue.token()}", "Content-Type": "application/json"}
    with pytest.raises(HTTPError) as error:
        urlopen(Request(f"{queue.url}/api/jobs", body.encode(), headers))
    assert error.value.code == 422
    assert "jobs.0.options.time_budget_s" in json.load(error.value)["error"]


def test_admit_what_cannot_be_stored_is_refused(queue):
    space = {"method": "cdo", "parameters": {"params.gamma": {"uniform": [1, 3]}}}
    for value in (float("nan"), "\ud800"):
        with pytest.raises(
            JobError, match=r"^job 'a': a value cannot be stored as JSON \(.*\); use finite numbers and plain text$"
        ):
            admit(JobSpec("tune", "a", queue.document(), space, {"x": value}), None)


def test_submit_what_the_cluster_can_never_give_is_refused_with_what_it_has(queue):
    queue.cluster.resources = [{"CPU": 2.0}]
    request = queue.request()
    request["document"]["train"] = {"workers": 3}
    with pytest.raises(QueueError, match=r"got 3 workers with 1 CPU and 0 GPU each, the cluster holds 2 \(nodes: 2 CPU 0 GPU\)"):
        queue.client().submit([request])


def test_submit_while_the_head_is_silent_waits(queue):
    queue.cluster.is_down = True  # what it has is unknown
    request = queue.request()
    request["document"]["train"] = {"workers": 300}
    assert queue.client().submit([request])[0]["created"]


def test_token_wrong_revoked_or_missing_is_refused(queue, monkeypatch):
    monkeypatch.setattr(access, "TOKEN_SECONDS", 0)
    client = queue.client()
    with pytest.raises(QueueError, match="the token is unknown or revoked; ask an administrator"):
        QueueClient(queue.url, "adj_wrong").select()
    with queue.store.transaction() as connection:
        (info,) = tokens.select_all(connection)
        tokens.revoke(connection, info.prefix)
    with pytest.raises(QueueError, match="unknown or revoked"):
        client.select()


def test_viewer_sees_and_changes_nothing(queue):
    (job,) = queue.client().submit([queue.request()])
    viewer = queue.client("eve", Role.VIEWER)
    assert len(viewer.select()) == 1
    changes = (
        lambda: viewer.submit([queue.request()]),
        lambda: viewer.stop(job["id"]),
        lambda: viewer.resume(job["id"]),
        lambda: viewer.set_priority(job["id"], 1),
        lambda: viewer.prune(0),
    )
    for change in changes:
        with pytest.raises(QueueError, match="eve is a viewer, who cannot change jobs"):
            change()


def test_submitter_changes_own_jobs_and_an_administrator_all(queue):
    (job,) = queue.client("ann").submit([queue.request()])
    with pytest.raises(QueueError, match=f"job {job['id']} is ann's; only they and administrators can change it"):
        queue.client("bob").stop(job["id"])
    with pytest.raises(QueueError, match="bob is no administrator"):
        queue.client("bob").prune(0)
    admin = queue.client("root", Role.ADMIN)
    assert admin.set_priority(job["id"], 7)["priority"] == 7
    assert admin.stop(job["id"])["state"] == "stopped"
    with pytest.raises(QueueError, match="is stopped already; only jobs that wait or run can be stopped"):
        admin.stop(job["id"])
    assert admin.resume(job["id"])["state"] == "queued"
    admin.stop(job["id"])
    assert admin.prune(0) == 1
    assert queue.deleted_folders == [job["id"]]


def test_logs_are_the_end_of_what_was_printed(queue):
    client = queue.client()
    (job,) = client.submit([queue.request()])
    assert client.logs(job["id"])["logs"] == ""
    queue.store.claim("one", 1, 30)
    queue.cluster.log = "x" * 200_000 + "end"
    log = client.logs(job["id"])
    assert (len(log["logs"]), log["logs"][-3:], log["characters"]) == (100_000, "end", 200_003)


def test_unknown_job_and_a_body_too_large_are_one_line(queue):
    client = queue.client()
    for job in ("nope", "../tokens", "%"):
        with pytest.raises(QueueError, match="no such job"):
            client.get(job)
    with pytest.raises(QueueError, match="a request may have 4194304; submit fewer at once"):
        client.submit([queue.request(document={"method": "x" * MAX_BODY})])
    connection = http.client.HTTPConnection(queue.url.removeprefix("http://"))
    connection.putrequest("POST", "/api/jobs")
    connection.putheader("Content-Length", str(MAX_BODY + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413


def test_client_without_a_queue_says_what_to_do(queue):
    with pytest.raises(QueueError, match=r"the queue at http://127.0.0.1:1 does not answer \(.*\); start it with 'adjobs up'"):
        QueueClient("http://127.0.0.1:1", "t").select()


def test_store_that_fails_is_one_line(queue, monkeypatch):
    client = queue.client()

    def fail(*arguments: object) -> None:
        raise ClusterError("down")

    monkeypatch.setattr(queue.store, "positions", fail)
    with pytest.raises(QueueError, match=r"^down$"):
        client.select()
