"""What MLflow holds of a search, read back."""

from __future__ import annotations

import pytest

from adjobs.config.resolve import resolve
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import TrackingError
from adjobs.tracking import search
from adjobs.tracking.client import connect
from adjobs.tracking.layout import DatasetInfo, RunRef
from adjobs.tracking.runs import create_run, open_reader, open_writer
from adjobs.types import JobStatus

pytestmark = pytest.mark.slow

JOB = resolve({"method": "cdo", "data": {"uri": "images"}})
SPACE = {"method": "cdo", "parameters": {"params.gamma": {"uniform": [0, 4]}}}
INFO = DatasetInfo("0" * 64, "folder", {}, SplitAssignment("holdout", 0, ("a",), ("b",), ("c",)))


@pytest.fixture(scope="module")
def uri(tmp_path_factory, empty_mlflow) -> str:
    return empty_mlflow(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def opened(uri) -> RunRef:
    """A search with three trials, opened in another order, the middle one finished; and a run that does not belong to it."""
    ref = search.open_search(uri, "mine", JOB, SPACE, {"trials": 3}, {"data_fingerprint": "f"})
    for number in (2, 0, 1):
        tags = {"trial": str(number), "params": '{"params.gamma": 1.5}'}
        trial = create_run(uri, JOB, INFO, "checkpoints/{run}", tags, search.parent_run(ref.run_id, number))
        if number == 1:
            writer = open_writer(trial)
            for interval, value in ((1, 0.5), (2, 0.7), (2, 0.9)):
                writer.log_metrics({"val/image_auroc": value}, interval)
            writer.log_metrics({"costs/ms_per_image": 3.0}, 2)
            search_writer = search.SearchWriter(ref)
            search_writer.record_outcome(trial.run_id, "complete", {"reason": ""})
            search_writer.close_trial(trial.run_id, JobStatus.FINISHED)
    create_run(uri, JOB, INFO, "checkpoints/{run}", {})
    return ref


def test_find_search_by_name_and_by_run_id(uri, opened):
    for name in ("mine", opened.run_id):
        stored = search.find_search(uri, name)
        assert (stored.ref, stored.status, stored.job) == (opened, JobStatus.RUNNING, JOB)
        assert (stored.space, stored.options) == (SPACE, {"trials": 3})


def test_find_search_has_its_trials_in_order_and_no_others(uri, opened):
    stored = search.find_search(uri, "mine")
    assert [trial.tags["trial"] for trial in stored.trials] == ["0", "1", "2"]
    assert [trial.status for trial in stored.trials] == [JobStatus.RUNNING, JobStatus.FINISHED, JobStatus.RUNNING]
    assert stored.trials[1].tags["state"] == "complete"
    assert stored.trials[1].values == {"image_auroc": 0.9, "ms_per_image": 3.0}
    assert stored.final is None


def test_trial_history_of_a_repeated_interval_has_the_first_value(uri, opened):
    trial = search.find_search(uri, "mine").trials[1]
    assert search.trial_history(RunRef(uri, trial.run_id), "image_auroc") == {1: 0.5, 2: 0.7}


def test_parent_run_makes_trials_children_of_the_search(uri, opened):
    trial = search.find_search(uri, "mine").trials[0]
    run = connect(uri).get_run(trial.run_id)
    assert run.data.tags["mlflow.parentRunId"] == opened.run_id
    assert run.info.run_name == "cdo-images-000"


def test_find_search_final_training_is_not_a_trial(uri, opened):
    final = create_run(uri, JOB, INFO, "checkpoints/{run}", {}, search.parent_run(opened.run_id, None))
    stored = search.find_search(uri, "mine")
    assert stored.final is not None
    assert stored.final.run_id == final.run_id
    assert len(stored.trials) == 3


def test_log_result_stores_the_best_job_and_all_trials(opened):
    search.SearchWriter(opened).log_result(JOB, {"trials": []}, {})
    reader = open_reader(opened)
    assert reader.read_json("trials.json") == {"trials": []}
    assert "method: cdo" in reader.read_text("best.yaml")


def test_open_search_taken_name_is_refused(uri, opened):
    with pytest.raises(TrackingError, match="search 'mine': exists already; resume it with 'adjobs tune --resume mine'"):
        search.open_search(uri, "mine", JOB, SPACE, {}, {})


def test_open_search_that_was_killed_half_way_is_not_found_and_can_be_opened_again(uri, monkeypatch):
    def die(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(connect(uri)), "log_dict", die)
        with pytest.raises(KeyboardInterrupt):
            search.open_search(uri, "half", JOB, SPACE, {}, {})
    with pytest.raises(TrackingError, match="does not exist"):
        search.find_search(uri, "half")
    experiment = connect(uri).get_experiment_by_name(JOB.track.experiment).experiment_id
    (half,) = connect(uri).search_runs([experiment], "attributes.run_name = 'half'")
    assert half.info.status == "KILLED"
    opened = search.open_search(uri, "half", JOB, SPACE, {}, {})
    assert search.find_search(uri, "half").ref == opened


def open_failed(uri: str, name: str, *trials: JobStatus, **metrics: float) -> RunRef:
    """A search that an error ended, with trials of these states, each with the metrics."""
    ref = search.open_search(uri, name, JOB, SPACE, {}, {})
    for number, status in enumerate(trials):
        tags = {"trial": str(number), "params": "{}"}
        trial = create_run(uri, JOB, INFO, "checkpoints/{run}", tags, search.parent_run(ref.run_id, number))
        open_writer(trial).log_metrics(metrics, 1)
        open_writer(trial).close(status)
    open_writer(ref).close(JobStatus.FAILED)
    return ref


@pytest.mark.parametrize("trials", [(), (JobStatus.FAILED, JobStatus.FAILED), (JobStatus.FAILED, JobStatus.KILLED)])
def test_open_search_name_of_one_that_failed_before_anything_came_of_it_is_free(uri, trials):
    name = f"void-{'-'.join(trials)}"
    first = open_failed(uri, name, *trials)
    assert search.find_search(uri, name).ref == first  # it can also be resumed
    second = search.open_search(uri, name, JOB, SPACE, {}, {})
    assert search.find_search(uri, name).ref == second != first


@pytest.mark.parametrize("status", [JobStatus.FINISHED, JobStatus.KILLED])
def test_open_search_name_of_one_that_failed_later_is_refused(uri, status):
    name = f"failed-{status}"
    open_failed(uri, name, JobStatus.FAILED, status, loss=0.5)
    with pytest.raises(TrackingError, match=f"exists already; resume it with 'adjobs tune --resume {name}'"):
        search.open_search(uri, name, JOB, SPACE, {}, {})


@pytest.mark.parametrize(("name", "message"), [("other", "does not exist"), ("it's", "must not contain quotation marks")])
def test_find_search_unknown_name_is_refused(uri, opened, name, message):
    with pytest.raises(TrackingError, match=message):
        search.find_search(uri, name)
