"""What is sent to the queue for a job: checked as far as it can be where it is submitted."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adjobs.errors import JobError, join_problems

Request = dict[str, Any]
RequestVerb = Literal["train", "tune", "compare", "retrain"]


@dataclass(frozen=True)
class RequestOptions:
    """How the queue treats a job.

    Attributes:
        name: for people.
        priority: higher first, from -1000 to 1000.
        after: ids of jobs that must be done before this one starts.
        force: whether it is a job of its own even if an equal one is queued or running.
    """

    name: str
    priority: int = 0
    after: Sequence[str] = ()
    force: bool = False


@dataclass(frozen=True)
class Submission:
    """A job of the queue.

    Attributes:
        id: of the job.
        created: False where an equal job was queued or running already: this is that one.
        position: place in the queue, from 1; None where it does not wait.
    """

    id: str
    created: bool
    position: int | None


def name_of(path: Path) -> str:
    """A name that the queue takes, whatever the job file is called.

    >>> name_of(Path("_Größe (3).yaml"))
    'Gr--e -3-'
    """
    return re.sub(r"[^A-Za-z0-9._ -]", "-", path.stem).lstrip("-._ ")[:100] or "job"


def make_request(verb: RequestVerb, document: Mapping[str, Any], options: RequestOptions) -> Request:
    """A job for the queue; ``document`` is its resolved file, ready for JSON."""
    return {
        "verb": verb,
        "name": options.name,
        "document": document,
        "priority": options.priority,
        "after": list(options.after),
        "key": secrets.token_hex(16) if options.force else None,  # sent again, it is the same job
    }


def is_retraining(document: Mapping[str, Any]) -> bool:
    """Whether the content of a file describes a retraining."""
    return {"model", "dataset"} <= document.keys()


def request_of(document: Mapping[str, Any], path: Path | None, overrides: Iterable[str], options: RequestOptions) -> Request:
    """The request of a training, a comparison or a retraining, with absolute paths.

    Args:
        document: content of its file.
        path: of the file; None where there is none.
        overrides: changes of single keys of a training or a comparison, such as ``params.gamma=3``.
        options: how the queue treats it.

    Raises:
        JobError: it is wrong, or a retraining with overrides or ``options.force``.
    """
    from adjobs.config.resolve import override, resolve
    from adjobs.jobs.prepare import with_absolute_paths

    source, overrides = str(path or "job"), tuple(overrides)
    if is_retraining(document):
        if overrides or options.force:
            raise JobError(f"{source}: a retraining takes neither overrides nor force; each model has one at a time; remove them")
        return make_request("retrain", _retraining_document(document, path), options)
    document = override(document, overrides)
    if "compare" in document:
        return make_request("compare", _comparison_document(document, source), options)
    job = with_absolute_paths(resolve(document, source=source))
    return make_request("train", job.model_dump(mode="json"), options)


def _retraining_document(document: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
    from adjobs.retraining.config import parse_retraining, read_retraining, with_absolute_paths

    retraining = with_absolute_paths(parse_retraining(document), Path.cwd()) if path is None else read_retraining(path)
    return retraining.model_dump(mode="json")


def _comparison_document(document: Mapping[str, Any], source: str) -> dict[str, Any]:
    from adjobs.comparison.config import parse_comparison
    from adjobs.comparison.plan import with_absolute_paths

    return with_absolute_paths(parse_comparison(document, source=source)).model_dump(mode="json")


def refuse_problems(sources: Sequence[object], requests: Sequence[Request], checked: Sequence[Mapping[str, Any]]) -> None:
    """Stop before anything is sent if the queue would refuse a job.

    Args:
        sources: the job files, or what else names each job.
        requests: their jobs.
        checked: what the queue says of each.

    Raises:
        JobError: says all that is wrong.
    """
    problems = list(_problems(sources, requests, checked))
    if problems:
        raise JobError(join_problems(problems))


def _problems(sources: Sequence[object], requests: Sequence[Request], checked: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for source, request, job in zip(sources, requests, checked, strict=True):
        copies = _copy_commands(request)
        yield from (f"{source}: {_missing(path, copies.get(path))}" for path in job["missing"])
        if job["problem"]:
            yield job["problem"]


def _copy_commands(request: Request) -> dict[str, str]:
    """How folders of images get to S3, by their places in the document."""
    document = request["document"]
    if request["verb"] == "retrain":
        dataset, inbox = document["dataset"], document.get("inbox")
        commands = {dataset: f"'adjobs dataset create s3://bucket/prefix --from {dataset}'"}
        return commands if inbox is None else {inbox: f"'aws s3 sync {inbox} s3://bucket/prefix'", **commands}
    uri = document["data"]["uri"]
    return {uri: f"'adjobs data import {uri} s3://bucket/prefix'"}


def _missing(text: str, copy_command: str | None) -> str:
    if not Path(text).exists():
        return f"{text} is neither on this machine nor on the queue's; correct the path"
    remedy = f"copy it to S3 ({copy_command})" if copy_command else "give the folder that it is in as --working-dir"
    return f"{text} is on this machine, but not on the queue's; {remedy}, or copy it to a folder that the cluster shares"
