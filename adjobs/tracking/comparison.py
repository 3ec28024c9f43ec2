"""A comparison in MLflow: a parent run, and a child run for each training. They are all that is needed to resume it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adjobs.documents import load_yaml
from adjobs.errors import TrackingError
from adjobs.tracking.layout import JOB_FILE, ParentRun, RunRef
from adjobs.tracking.params import flatten
from adjobs.tracking.parents import ChildRun, find_parent, open_parent
from adjobs.tracking.reader import MlflowRunReader
from adjobs.types import JobStatus

COMPARISON, CANDIDATE = "comparison", "candidate"  # values of the tag kind
RESULT_FILE, SUMMARY_FILE = "comparison.json", "summary.md"


@dataclass(frozen=True)
class StoredComparison:
    """A comparison as MLflow has it.

    Attributes:
        ref: its run.
        status: of its run.
        tags: those of adjobs, without their prefix.
        document: what is compared, as in a job file.
        children: the runs of its trainings.
    """

    ref: RunRef
    status: JobStatus
    tags: Mapping[str, str]
    document: Mapping[str, Any]
    children: Sequence[ChildRun]

    def child(self, key: str) -> ChildRun | None:
        """The training with this key; None if it was not started."""
        return next((child for child in self.children if child.tags.get("candidate") == key), None)


def open_comparison(
    uri: str, name: str, experiment: str, document: Mapping[str, Any], text: str, tags: Mapping[str, str]
) -> RunRef:
    """Open the run of a comparison.

    Args:
        uri: tracking URI.
        name: of the comparison.
        experiment: of MLflow.
        document: what is compared, ready for JSON.
        text: the same as YAML.
        tags: more tags.

    Raises:
        TrackingError: the name is taken.
    """
    return open_parent(
        uri, COMPARISON, name, experiment, tags, flatten(document), lambda client, run_id: client.log_text(run_id, text, JOB_FILE)
    )


def find_comparison(uri: str, name: str) -> StoredComparison:
    """Read a comparison back, by its name or run id.

    Raises:
        TrackingError: there is no such comparison.
    """
    parent, children = find_parent(uri, COMPARISON, name)
    reader = MlflowRunReader(RunRef(uri, parent.run_id))
    document = load_yaml(reader.read_text(JOB_FILE))
    if not isinstance(document, dict):
        raise TrackingError(f"comparison '{name}': its {JOB_FILE} is damaged; start a new one")
    return StoredComparison(
        reader.ref, parent.status, parent.tags, document, [child for child in children if child.tags.get("kind") == CANDIDATE]
    )


def parent_run(comparison: str, suffix: str) -> ParentRun:
    """What makes a run a training of a comparison."""
    return ParentRun(comparison, CANDIDATE, suffix)
