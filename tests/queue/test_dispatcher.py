from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adjobs.queue import dispatcher
from adjobs.queue.dispatcher import MAX_REFUSALS
from adjobs.queue.folder import AttemptEnd, JobFolder, JobProgress
from adjobs.queue.records import NewJob
from adjobs.queue.states import JobState
from adjobs.tracking.layout import RunRef
from tests.helpers.queue import Killed, Setup


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def run_first(setup: Setup, **values: Any) -> str:
    """A job whose first attempt runs."""
    job = setup.submit("a", **values)
    setup.dispatcher().step()
    setup.cluster.set(f"{job}-1", "RUNNING")
    setup.dispatcher().step()
    assert setup.get(job).state is JobState.RUNNING
    return job


def test_step_job_runs_to_its_end(setup):
    job = run_first(setup)
    folder = setup.folder(job)
    folder.write_run(RunRef("http://mlflow", "4f"))
    folder.write_end(1, AttemptEnd("done", "succeeded"))
    setup.cluster.set(f"{job}-1", "SUCCEEDED")
    setup.dispatcher().step()
    ended = setup.get(job)
    assert (ended.state, ended.run_id, ended.attempt, ended.reason) == (JobState.DONE, "4f", 1, "succeeded")
    assert [change.state.value for change in setup.store.history_of(job)] == ["queued", "starting", "running", "done"]


def test_step_starts_one_job_for_each_slot(setup):
    jobs = [setup.submit(name) for name in "abc"]
    setup.dispatcher().step()
    assert setup.cluster.submitted == [f"{job}-1" for job in jobs[:2]]
    setup.cluster.set(f"{jobs[0]}-1", "SUCCEEDED")
    setup.dispatcher().step()
    assert setup.cluster.submitted[2:] == [f"{jobs[2]}-1"]


def test_step_job_that_ends_keeps_the_last_progress_with_its_memory(setup):
    job = run_first(setup)
    setup.folder(job).write_progress(1, JobProgress("fit", 2, 2, memory_mib=900.0))
    setup.folder(job).write_end(1, AttemptEnd("done", "succeeded"))
    setup.cluster.set(f"{job}-1", "SUCCEEDED")
    setup.dispatcher().step()
    ended = setup.get(job)
    assert (ended.state, ended.progress["memory_mib"]) == (JobState.DONE, 900.0)


def test_step_job_with_a_working_directory_has_it_at_each_attempt(setup):
    spec = {"verb": "train", "working_dir": "d1"}
    job = setup.store.submit(NewJob("a", spec, "ann", "a"))[0].id
    setup.submit("b")
    setup.dispatcher().step()
    setup.cluster.set(f"{job}-1", "FAILED")
    setup.dispatcher().step()
    setup.dispatcher().step()
    assert [setup.cluster.working_dirs[setup.cluster.submitted.index(f"{job}-{attempt}")] for attempt in (1, 2)] == ["d1", "d1"]
    assert setup.cluster.environment == {"A": "1", "ADJOBS_WORKING_DIR": "d1"}
    assert None in setup.cluster.working_dirs


@pytest.mark.parametrize("moment", ["dies_before", "dies_after"])
def test_step_after_death_around_the_submission_submits_once(setup, moment):
    job = setup.submit("a")
    setattr(setup.cluster, moment, True)
    with pytest.raises(Killed):
        setup.dispatcher().step()
    setattr(setup.cluster, moment, False)
    setup.now += 100
    setup.dispatcher("another").step()
    assert setup.cluster.submitted == [f"{job}-1"]
    assert (setup.get(job).owner, setup.get(job).attempt) == ("another", 1)


def test_step_of_another_dispatcher_leaves_a_leased_job_alone(setup):
    job = run_first(setup)
    setup.cluster.set(f"{job}-1", "FAILED")
    setup.dispatcher("another").step()
    assert setup.get(job).state is JobState.RUNNING


def test_step_head_that_does_not_answer_changes_no_state(setup):
    job = run_first(setup)
    setup.cluster.is_down = True
    setup.dispatcher().step()
    assert (setup.get(job).state, setup.get(job).reason) == (JobState.RUNNING, "Ray at http://head: does not answer")
    setup.cluster.is_down = False
    setup.dispatcher().step()
    assert setup.get(job).reason == "running"


def test_step_queued_job_waits_for_a_head_that_does_not_answer(setup):
    job = setup.submit("a")
    setup.cluster.is_down = True
    setup.dispatcher().step()
    assert (setup.get(job).state, setup.get(job).reason) == (JobState.STARTING, "Ray at http://head: does not answer")
    setup.cluster.is_down = False
    setup.dispatcher().step()
    assert setup.cluster.submitted == [f"{job}-1"]


def test_step_head_replaced_starts_the_next_attempt_which_fences_the_first(setup):
    job = run_first(setup)
    setup.cluster.jobs.clear()
    setup.dispatcher().step()
    assert (setup.get(job).state, setup.get(job).attempt) == (JobState.STARTING, 2)
    assert setup.cluster.submitted == [f"{job}-1", f"{job}-2"]
    assert not setup.folder(job).is_current(1)
    assert setup.folder(job).is_current(2)


def test_step_head_replaced_after_the_driver_ended_is_no_second_attempt(setup):
    job = run_first(setup)
    setup.folder(job).write_end(1, AttemptEnd("done", "succeeded"))
    setup.cluster.jobs.clear()
    setup.dispatcher().step()
    assert (setup.get(job).state, setup.get(job).attempt) == (JobState.DONE, 1)


def test_step_lost_attempts_are_tried_again_up_to_the_limit(setup):
    job = run_first(setup, max_attempts=2)
    setup.cluster.set(f"{job}-1", "FAILED", "Job supervisor actor died\nnode lost")
    setup.dispatcher().step()
    assert setup.get(job).attempt == 2
    assert setup.store.history_of(job)[-2].reason == "attempt 1 of 2 was lost: Job supervisor actor died node lost"
    setup.cluster.set(f"{job}-2", "FAILED", "node lost")
    setup.dispatcher().step()
    assert (setup.get(job).state, setup.get(job).reason) == (JobState.FAILED, "the last of 2 attempts was lost: node lost")


def test_step_error_that_would_repeat_is_not_tried_again(setup):
    job = run_first(setup)
    setup.folder(job).write_end(1, AttemptEnd("failed", "data.uri: no such folder"))
    setup.cluster.set(f"{job}-1", "FAILED", "exit 2", 2)
    setup.dispatcher().step()
    assert (setup.get(job).state, setup.get(job).reason, setup.get(job).attempt) == (
        JobState.FAILED,
        "data.uri: no such folder",
        1,
    )


def test_step_stop_keeps_the_slot_until_ray_has_stopped_it(setup):
    job = run_first(setup)
    setup.store.request_stop(job)
    setup.dispatcher().step()
    assert setup.cluster.stopped == [f"{job}-1"]
    assert setup.get(job).state is JobState.RUNNING
    setup.cluster.set(f"{job}-1", "STOPPED")
    setup.dispatcher().step()
    assert setup.get(job).state is JobState.STOPPED


def test_step_stopped_job_of_a_lost_head_is_not_started_again(setup):
    job = run_first(setup)
    setup.store.request_stop(job)
    setup.cluster.jobs.clear()
    setup.dispatcher().step()
    assert setup.get(job).state is JobState.STOPPED
    assert len(setup.cluster.submitted) == 1


def test_step_job_stopped_at_ray_is_stopped(setup):
    job = run_first(setup)
    setup.cluster.set(f"{job}-1", "STOPPED")
    setup.dispatcher().step()
    assert (setup.get(job).state, setup.get(job).reason) == (JobState.STOPPED, "stopped by a user")


@pytest.mark.parametrize("head_is_new", [False, True])
def test_step_driver_stopped_with_its_machine_is_followed_by_the_next_attempt(setup, head_is_new):
    job = run_first(setup)
    setup.folder(job).write_end(1, AttemptEnd("interrupted", "asked to end"))
    setup.cluster.set(f"{job}-1", "FAILED", "exit 143", 143)
    if head_is_new:
        setup.cluster.jobs.clear()
    setup.dispatcher().step()
    resumed = setup.get(job)
    assert (resumed.state, resumed.attempt, resumed.max_attempts) == (JobState.STARTING, 2, 4)
    assert setup.store.history_of(job)[-2].reason == "attempt 1 of 3 was interrupted, and does not count: asked to end"


def test_step_job_that_is_interrupted_again_and_again_ends(setup, monkeypatch):
    monkeypatch.setattr(dispatcher, "MAX_STARTS", 2)
    job = run_first(setup)
    for attempt in range(1, 5):
        setup.cluster.set(f"{job}-{attempt}", "FAILED", "exit 143", 143)
        setup.dispatcher().step()
    ended = setup.get(job)
    assert (ended.state, ended.attempt) == (JobState.FAILED, 4)
    assert ended.reason.startswith("the last of 4 attempts was lost: its driver was asked to end")


def test_step_driver_that_a_user_stopped_is_stopped(setup):
    job = run_first(setup)
    setup.store.request_stop(job)
    setup.folder(job).write_end(1, AttemptEnd("interrupted", "asked to end"))
    setup.cluster.set(f"{job}-1", "FAILED", "exit 143", 143)
    setup.dispatcher().step()
    assert (setup.get(job).state, setup.get(job).attempt) == (JobState.STOPPED, 1)


@pytest.mark.parametrize(
    ("exit_status", "message", "state", "reason"),
    [
        (
            2,
            "failed with exit code 2, last logs:\nreading\nerror: data.uri: no such folder\n",
            "failed",
            "data.uri: no such folder",
        ),
        (75, "exit code 75\nerror: MLflow: no answer", "starting", "attempt 1 of 3 was lost: MLflow: no answer"),
        (143, "exit code 143", "starting", "attempt 1 of 3 was interrupted, and does not count: its driver was asked to end"),
        (-9, "exit code -9", "starting", "attempt 1 of 3 was lost: its driver was killed by signal 9"),
        (
            1,
            "exit code 1, last logs:\nTraceback\nKeyError: 3\n",
            "starting",
            "attempt 1 of 3 was lost: its driver ended with status 1: KeyError: 3",
        ),
    ],
)
def test_step_exit_status_says_how_an_attempt_ended_that_could_not_store_it(setup, exit_status, message, state, reason):
    job = run_first(setup)
    setup.cluster.set(f"{job}-1", "FAILED", message, exit_status)
    setup.dispatcher().step()
    assert setup.get(job).state == state
    assert any(change.reason.startswith(reason) for change in setup.store.history_of(job))


def test_step_job_that_ray_refuses_again_and_again_fails_with_the_reason_and_frees_its_slot(setup):
    job = setup.submit("a")
    setup.cluster.refusal = "Ray at http://head: refused job (400: no such option)"
    for _ in range(MAX_REFUSALS - 1):
        setup.dispatcher().step()
    assert (setup.get(job).state, setup.get(job).reason) == (JobState.STARTING, setup.cluster.refusal)
    setup.dispatcher().step()
    failed = setup.get(job)
    assert (failed.state, failed.reason) == (JobState.FAILED, f"{setup.cluster.refusal}; it did so {MAX_REFUSALS} times")
    assert not setup.folder(job).is_current(1)
    assert setup.store.claim("one", 1, 60) is None


def test_step_job_that_ray_refuses_for_a_while_is_started_in_the_same_attempt(setup):
    job = setup.submit("a")
    setup.cluster.refusal = "Ray at http://head: refused job (500: No available agent)"
    for _ in range(3):
        setup.dispatcher().step()
    setup.cluster.refusal = ""
    setup.dispatcher().step()
    assert setup.cluster.submitted == [f"{job}-1"]


def test_step_notes_progress_but_not_that_of_an_earlier_attempt(setup):
    job = run_first(setup)
    setup.folder(job).write_progress(1, JobProgress("distil", 120, 3000, 2.5, 30.0, 60.0))
    setup.dispatcher().step()
    assert setup.get(job).progress == {
        "stage": "distil",
        "done": 120,
        "total": 3000,
        "loss": 2.5,
        "images_per_s": 30.0,
        "seconds_left": 60.0,
        "memory_mib": None,
        "gpu_memory_mib": None,
    }
    setup.cluster.jobs.clear()
    setup.dispatcher().step()
    assert (setup.get(job).attempt, setup.get(job).progress) == (2, None)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"state": "gone", "reason": ""}', b'{"other": 1}'])
def test_step_damaged_end_of_an_attempt_is_replaced_by_what_ray_says(setup, content):
    done, failed = run_first(setup), setup.submit("b")
    setup.folder(done)._store.write("end-1.json", content)
    setup.cluster.set(f"{done}-1", "SUCCEEDED")
    setup.folder(failed)._store.write("end-1.json", content)
    setup.dispatcher().step()
    setup.cluster.set(f"{failed}-1", "FAILED", "error: bad data", 2)
    setup.dispatcher().step()
    assert (setup.get(done).state, setup.get(failed).state) == (JobState.DONE, JobState.FAILED)


def test_step_damaged_run_and_progress_keep_no_job_from_ending(setup):
    job = run_first(setup)
    for name in ("run.json", "progress.json"):
        setup.folder(job)._store.write(name, b"{")
    setup.dispatcher().step()
    setup.cluster.set(f"{job}-1", "SUCCEEDED")
    setup.dispatcher().step()
    assert (setup.get(job).state, setup.get(job).run_id) == (JobState.DONE, None)


def test_step_damaged_fence_is_replaced_when_the_next_attempt_starts_and_when_a_lost_one_is_stopped(setup):
    lost, stopped = run_first(setup), setup.submit("b")
    setup.dispatcher().step()
    for job in (lost, stopped):
        setup.folder(job)._store.write("attempt.json", b"{")
    setup.store.request_stop(stopped)
    setup.cluster.jobs.clear()
    setup.dispatcher().step()
    assert (setup.get(lost).attempt, setup.folder(lost).is_current(2)) == (2, True)
    assert (setup.get(stopped).state, setup.folder(stopped).is_current(1)) == (JobState.STOPPED, False)


def test_step_job_that_cannot_be_stored_fails_and_others_go_on(setup):
    """Not even one that no check of the interface let through keeps its slot."""
    spec = {"verb": "train", "options": {"x": float("nan")}}
    (unstorable,) = setup.store.submit(NewJob("a", spec, "ann", "a"))
    other = setup.submit("b")
    for _ in range(2):
        setup.dispatcher().step()
    failed = setup.get(unstorable.id)
    assert (failed.state, "it cannot be stored as JSON (Out of range float values" in failed.reason) == (JobState.FAILED, True)
    assert setup.cluster.submitted == [f"{other}-1"]


def test_step_unexpected_error_of_one_job_is_logged_once_and_others_go_on(setup, monkeypatch, caplog):
    job, other = run_first(setup), setup.submit("b")
    monkeypatch.setattr(JobFolder, "run", lambda folder: 1 // 0 if job in folder.fence(1).uri else None)
    for _ in range(3):
        setup.dispatcher().step()
    assert "cannot go on with this job (integer division or modulo by zero)" in setup.get(job).reason
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 1
    assert setup.get(other).state is JobState.STARTING


def test_run_submits_what_is_due_before_each_step(setup):
    """A job of a schedule starts in the step that follows."""
    rounds = 0

    def submit_due() -> None:
        setup.submit(f"job {rounds}")

    def should_stop() -> bool:
        nonlocal rounds
        rounds += 1
        return rounds > 2

    setup.dispatcher().run(0.0, should_stop, submit_due)
    assert len(setup.cluster.submitted) == 2
