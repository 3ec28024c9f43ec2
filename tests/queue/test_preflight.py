"""What jobs that are submitted now would meet."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adjobs.errors import QueueError
from adjobs.queue.folder import JobSpec
from adjobs.queue.preflight import missing_paths
from adjobs.queue.tokens import Role
from adjobs.version import __version__
from tests.helpers.queue import RunningQueue


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningQueue]:
    with RunningQueue(tmp_path_factory.mktemp("queue")) as queue:
        yield queue


def missing(uri: Path | str, method: str = "cdo", params: dict[str, Any] | None = None, **data: Any) -> list[str]:
    document = {"method": method, "data": {"uri": str(uri), **data}, "params": params or {}}
    return list(missing_paths(JobSpec("train", "job", document)))


def test_missing_paths_are_absolute_ones_that_this_machine_does_not_have(tmp_path):
    nowhere, folder = str(tmp_path / "nowhere"), str(tmp_path)
    assert missing(nowhere, params={"weights": f"{nowhere}.pth"}, split=f"{nowhere}.json") == [
        nowhere,
        f"{nowhere}.pth",
        f"{nowhere}.json",
    ]
    assert missing(folder, params={"weights": "relative.pth"}, split="relative.json") == []
    assert missing("s3://bucket/data", params={"weights": "none"}) == []
    assert missing("elpv") == []
    assert missing(nowhere, method="of the working directory", params={"weights": f"{nowhere}.pth"}) == [nowhere]


def test_missing_paths_of_a_wrong_job_are_left_to_its_check():
    assert missing("nowhere", params={"other": 1}) == []
    assert list(missing_paths(JobSpec("train", "job", {"data": []}))) == []


def test_preflight_says_versions_problems_and_place_and_submits_nothing(queue):
    wrong = queue.request(document={**queue.document(), "params": {"other": 1}})
    answer = queue.client().preflight([queue.request(), wrong])
    assert (answer["version"], answer["python"], answer["ray"]) == (__version__, "3.11.7", "2.60.0")
    assert (answer["position"], answer["starts_in_s"]) == (1, 0.0)
    right, refused = answer["jobs"]
    assert right == {"problem": None, "missing": [], "estimate": None}
    assert refused["problem"].startswith("job 'job': params.other: unknown key")
    assert queue.store.select() == []


def test_preflight_of_a_head_that_does_not_answer_says_so_by_null(queue, monkeypatch):
    monkeypatch.setattr(queue.cluster, "is_down", True)
    answer = queue.client().preflight([queue.request()])
    assert (answer["python"], answer["ray"]) == (platform.python_version(), None)


def test_preflight_of_a_viewer_is_refused(queue):
    with pytest.raises(QueueError, match="is a viewer"):
        queue.client("vic", Role.VIEWER).preflight([queue.request()])
