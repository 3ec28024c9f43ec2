"""What is checked of a job before it is queued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adjobs.errors import JobError
from adjobs.queue.admission import admit
from adjobs.queue.folder import JobSpec
from tests.helpers.drawing import draw_folder


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
