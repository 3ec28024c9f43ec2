"""What is checked of a job before it is queued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adjobs.errors import DataError, JobError
from adjobs.queue.admission import admit, retraining_key
from adjobs.queue.folder import JobSpec
from tests.helpers.drawing import draw_folder
from tests.helpers.schedules import empty_dataset, retraining


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("data"), 12, 2, size=16)


def spec(root: Path, working_dir: str | None = None, **values: Any) -> JobSpec:
    document = {"method": "cdo", "data": {"uri": str(root)}, **values}
    return JobSpec("train", "job", document, working_dir=working_dir)


def test_admit_jobs_with_other_working_directories_are_not_equal(data):
    assert len({admit(spec(data, digest), None) for digest in (None, "a", "b")}) == 3


def test_admit_method_of_the_working_directory_is_left_to_the_cluster(data):
    with pytest.raises(JobError, match="unknown method 'gloss'"):
        admit(spec(data, method="gloss"), None)
    assert admit(spec(data, "a", method="gloss", params={"lr": 1}), None)
    with pytest.raises(JobError, match=r"job 'job': data.image_size: got 7.*; train.other: unknown key"):
        admit(spec(data, "a", method="gloss", data={"uri": str(data), "image_size": 7}, train={"other": 1}), None)


def test_admit_known_method_is_checked_whatever_the_working_directory(data):
    with pytest.raises(JobError, match=r"params.other: unknown key"):
        admit(spec(data, "a", params={"other": 1}), None)


def comparison(root: Path, **values: Any) -> JobSpec:
    section = {"methods": ["cdo", "dpae"], **values}
    return JobSpec("compare", "job", {"compare": section, "data": {"uri": str(root)}})


def test_admit_equal_comparisons_share_a_key_and_others_do_not(data):
    keys = [admit(comparison(data, **values), None) for values in ({}, {}, {"budget": "1h"}, {"methods": ["cdo"]})]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_admit_comparison_is_checked_with_every_method_that_it_names(data):
    with pytest.raises(JobError, match=r"job 'job': compare.methods: cd: unknown method 'cd'"):
        admit(comparison(data, methods=["cdo", "cd"]), None)
    with pytest.raises(JobError, match=r"train.workers"):
        admit(comparison(data), [{"CPU": 0.0}])
    with pytest.raises(JobError, match="a comparison takes no search space"):
        admit(JobSpec(**{**vars(comparison(data)), "space": {}}), None)


def test_admit_retrainings_of_a_model_share_a_key_whatever_else_they_say(tmp_path):
    dataset = empty_dataset(tmp_path / "line-3")
    documents = [retraining(dataset), retraining(dataset, promote=False), retraining(dataset, model="line-4")]
    keys = [admit(JobSpec("retrain", "job", document), None) for document in documents]
    assert keys == [retraining_key("line-3")] * 2 + [retraining_key("line-4")]


def test_admit_retraining_is_checked_as_far_as_its_data_set_and_the_cluster(tmp_path):
    document = retraining(tmp_path / "line-3")
    with pytest.raises(JobError, match=r"^job 'job': inbx: unknown key"):
        admit(JobSpec("retrain", "job", {**document, "inbx": "s3://b/inbox"}), None)
    with pytest.raises(DataError, match=r"^job 'job', seen from the queue's machine: .*line-3: is not a data set with versions"):
        admit(JobSpec("retrain", "job", document), None)
    empty_dataset(tmp_path / "line-3")
    with pytest.raises(JobError, match=r"train.workers"):
        admit(JobSpec("retrain", "job", document), [{"CPU": 0.0}])
    with pytest.raises(JobError, match="a retraining takes no search space"):
        admit(JobSpec("retrain", "job", document, working_dir="a"), None)
