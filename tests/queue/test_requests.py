"""``adjobs.submit`` and what it sends to the queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import adjobs
from adjobs.errors import JobError, QueueError
from adjobs.queue.requests import Submission
from adjobs.queue.tokens import Role
from tests.helpers.queue import RunningQueue
from tests.helpers.versioned import draw_versioned


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningQueue]:
    with RunningQueue(tmp_path / "queue") as queue:
        (tmp_path / "token").write_text(queue.token(role=Role.SUBMITTER))
        monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("ADJOBS_QUEUE_URL", queue.url)
        monkeypatch.setenv("ADJOBS_QUEUE_TOKEN_PATH", str(tmp_path / "token"))
        yield queue


@pytest.fixture
def document(queue: RunningQueue) -> dict[str, Any]:
    return queue.document()


def test_submit_mapping_is_a_training_that_is_queued_once_unless_forced(queue, document):
    first = adjobs.submit(document, overrides=["train.seed=5"], name="line", priority=3)
    assert first == Submission(first.id, True, 1)
    stored = queue.store.get(first.id)
    assert (stored.spec["verb"], stored.spec["document"]["train"]["seed"]) == ("train", 5)
    assert (stored.name, stored.priority) == ("line", 3)
    assert adjobs.submit(document, overrides=["train.seed=5"]) == Submission(first.id, False, 1)
    forced = adjobs.submit(document, overrides=["train.seed=5"], force=True, after=[first.id])
    assert (forced.created, forced.position) == (True, 2)


def test_submit_file_has_its_name_and_absolute_paths(queue, document, tmp_path, monkeypatch):
    monkeypatch.chdir(queue.data.parent)
    path = tmp_path / "my job.yaml"
    path.write_text(yaml.safe_dump({**document, "data": {**document["data"], "uri": queue.data.name}}))
    stored = queue.store.get(adjobs.submit(path).id)
    assert (stored.name, stored.spec["document"]["data"]["uri"]) == ("my job", str(queue.data))
    assert adjobs.submit(adjobs.api.load_job(path)).created is False


def test_submit_comparison_and_retraining(queue, document, tmp_path):
    comparison = adjobs.submit({"compare": {"methods": ["cdo"], "budget": "1h"}, "data": {"uri": str(queue.data)}})
    assert queue.store.get(comparison.id).spec["verb"] == "compare"
    retraining = {"model": "line", "dataset": str(draw_versioned(tmp_path / "grown")), "job": {"method": "cdo"}}
    (tmp_path / "retrain.yaml").write_text(yaml.safe_dump(retraining))
    submitted = adjobs.submit(tmp_path / "retrain.yaml")
    assert queue.store.get(submitted.id).spec["verb"] == "retrain"
    assert adjobs.submit(retraining).id == submitted.id
    for options in ({"force": True}, {"overrides": ["promote=false"]}):
        with pytest.raises(JobError, match="a retraining takes neither overrides nor force"):
            adjobs.submit(retraining, **options)


def test_submit_what_is_wrong_is_refused_and_nothing_is_queued(queue, document, tmp_path, monkeypatch):
    with pytest.raises(JobError, match=r"params\.gama"):
        adjobs.submit(document, overrides=["params.gama=1"])
    with pytest.raises(JobError, match="missing is neither on this machine nor on the queue's"):
        adjobs.submit({**document, "data": {**document["data"], "uri": str(tmp_path / "missing")}})
    monkeypatch.delenv("ADJOBS_QUEUE_URL")
    with pytest.raises(QueueError, match="no queue is known here"):
        adjobs.submit(document)
    assert queue.store.select() == []
