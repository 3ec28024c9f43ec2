"""What MLflow holds of a search, read back."""

from __future__ import annotations

import pytest

from adjobs.config.resolve import resolve
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import TrackingError
from adjobs.tracking import search
from adjobs.tracking.client import connect
from adjobs.tracking.run import DatasetInfo, RunWriter, start

JOB = resolve({"method": "cdo", "data": {"uri": "pictures"}})
SPACE = {"method": "cdo", "axes": {"params.gamma": {"uniform": [0, 4]}}}
FACTS = DatasetInfo("0" * 64, "folder", {}, SplitAssignment("holdout", 0, ("a",), ("b",), ("c",)))


@pytest.fixture(scope="module")
def uri(tmp_path_factory, empty_mlflow) -> str:
    return empty_mlflow(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def opened(uri) -> str:
    """A search with three trials, opened in another order, the middle one finished, and what is none of its trials."""
    run_id = search.open_search(uri, "mine", JOB, SPACE, {"trials": 3}, {"data_fingerprint": "f"})
    for number in (2, 0, 1):
        tags = {"trial": str(number), "point": '{"params.gamma": 1.5}'}
        trial = start(uri, JOB, FACTS, "checkpoints/{run}", tags, search.under(run_id, number))
        recorder = RunWriter(uri, trial)
        if number == 1:
            for round_, value in ((1, 0.5), (2, 0.7), (2, 0.9)):
                recorder.metrics({"val/image_auroc": value}, round_)
            recorder.metrics({"costs/ms_per_image": 3.0}, 2)
            recorder_of_search = search.SearchRecorder(uri, run_id)
            recorder_of_search.settle(trial, "finished", {})
            recorder_of_search.close(trial, "FINISHED")
    start(uri, JOB, FACTS, "checkpoints/{run}", {})
    return run_id


def test_a_search_is_found_by_its_name_and_by_its_run(uri, opened):
    for name in ("mine", opened):
        found = search.find_search(uri, name)
        assert (found.run_id, found.status, found.job, found.space, found.options) == (
            opened,
            "RUNNING",
            JOB,
            SPACE,
            {"trials": 3},
        )


def test_its_trials_are_in_order_and_no_others(uri, opened):
    trials = search.find_search(uri, "mine").trials
    assert [trial.tags["trial"] for trial in trials] == ["0", "1", "2"]
    assert [trial.status for trial in trials] == ["RUNNING", "FINISHED", "RUNNING"]
    assert trials[1].values == {"image_auroc": 0.9, "ms_per_image": 3.0}
    assert search.find_search(uri, "mine").final is None


def test_of_a_round_that_was_repeated_the_first_value_counts(uri, opened):
    trial = search.find_search(uri, "mine").trials[1]
    assert search.history(uri, trial.run_id, "image_auroc") == {1: 0.5, 2: 0.7}


def test_trials_are_nested_under_the_search(uri, opened):
    trial = search.find_search(uri, "mine").trials[0]
    run = connect(uri).get_run(trial.run_id)
    assert run.data.tags["mlflow.parentRunId"] == opened
    assert run.info.run_name == "cdo-pictures-000"


def test_the_final_training_is_told_from_trials(uri, opened):
    final = start(uri, JOB, FACTS, "checkpoints/{run}", {}, search.under(opened, None))
    found = search.find_search(uri, "mine").final
    assert found is not None
    assert found.run_id == final


def test_a_name_is_taken_once(uri, opened):
    with pytest.raises(TrackingError, match="search 'mine': there is one; go on with 'adjobs tune --resume mine'"):
        search.open_search(uri, "mine", JOB, SPACE, {}, {})


@pytest.mark.parametrize(("name", "message"), [("other", "there is none"), ("it's", "no quotation marks")])
def test_a_name_that_nobody_has(uri, opened, name, message):
    with pytest.raises(TrackingError, match=message):
        search.find_search(uri, name)
