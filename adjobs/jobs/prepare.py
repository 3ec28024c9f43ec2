"""A job's data: opened, checked and divided before anything is started."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from adjobs import __version__, methods
from adjobs.config.job import JobConfig
from adjobs.config.settings import Settings
from adjobs.data.checks.preflight import Limits, Problem, check, without
from adjobs.data.dataset import Dataset, fingerprint
from adjobs.data.open import open_dataset
from adjobs.data.splits.assignment import SplitAssignment, check_split, make_split, read_split
from adjobs.errors import DataError, JobError
from adjobs.methods.contract import Spec
from adjobs.metrics.pixel_threshold import check_pixels_possible
from adjobs.metrics.threshold import check_possible
from adjobs.storage.base import beside, disk


class Data(NamedTuple):
    """Data that passed all checks."""

    samples: Dataset
    fingerprint: str
    problems: list[Problem]
    split: SplitAssignment


def prepare_data(job: JobConfig, settings: Settings, split: SplitAssignment | None = None) -> Data:
    """Open, check and split the data, before anything is started.

    Args:
        job: the resolved job.
        settings: where the cache is.
        split: of an earlier run that is to go on; None makes or reads the job's own.

    Raises:
        DataError: there are problems and ``data.skip_invalid`` is off, or a part lacks what the job needs.
        JobError: the split or the threshold cannot be had from these data.
    """
    if split is None and job.data.split is not None:
        split = _given_split(job.data.split, job.data.max_train_anomalies)
    index = open_dataset(job.data.uri, job.data.format, cache=settings.cache)
    _divide(index, job, split, index)  # what cannot be divided with all its images is said before they are read
    limits = needs(methods.spec(job.method))
    whole = _known(index)
    problems = _check_once(index, whole, job, split, limits, settings.cache)
    _refuse(job, problems)
    rest = without(index, problems)
    found = _divide(rest, job, split, index)
    _check_thresholds(job, rest, found)
    all_there = len(rest.samples) == len(index.samples)
    return Data(rest, whole if whole and all_there else fingerprint(rest), problems, found)


def needs(spec: Spec) -> Limits:
    """What a method needs of its data, whatever the threshold's policy."""
    return Limits(train_anomalies="none" not in spec.supervisions, val_choice=spec.selection.rule == "best")


def _given_split(path: str, limit: int | None) -> SplitAssignment:
    if limit is not None:
        raise JobError(
            f"data.max_train_anomalies: got {limit} beside data.split {path}, which says itself which anomalies train; leave out one of both"
        )
    return read_split(Path(path).expanduser())


def _known(index: Dataset) -> str | None:
    """The fingerprint; None where a file cannot be read, which the check tells with all other problems."""
    try:
        return fingerprint(index, progress=True)
    except DataError:
        return None


def _divide(rest: Dataset, job: JobConfig, split: SplitAssignment | None, index: Dataset) -> SplitAssignment:
    """The job's split of what is left after exclusions."""
    if split is None:
        return make_split(rest, job.data.protocol, max_train_anomalies=job.data.max_train_anomalies, seed=job.data.seed)
    kept = {sample.id for sample in rest.samples}
    return check_split(rest, split, excluded=[sample.id for sample in index.samples if sample.id not in kept])


def _refuse(job: JobConfig, problems: list[Problem]) -> None:
    errors = [problem for problem in problems if problem.severity == "error"]
    of_all = [problem for problem in errors if not problem.sample]
    if not errors or (job.data.skip_invalid and not of_all):
        return
    first = (of_all if job.data.skip_invalid else errors)[0]
    got = f"{len(errors)} problems, first: {first.sample or 'the data set'}: {first.message}"
    todo = f"see all with 'adjobs data check {job.data.uri}', mend them"
    raise DataError(f"data '{job.data.uri}': {got}; {todo}" + (", or set data.skip_invalid=true" if not of_all else ""))


def _check_thresholds(job: JobConfig, index: Dataset, split: SplitAssignment) -> None:
    """Refuse thresholds that the validation part cannot give, before hours of training."""
    names = set(split.val)
    val = [sample for sample in index.samples if sample.id in names]
    anomalies = [sample for sample in val if sample.label == "anomalous"]
    n_normal, asked, pixels = len(val) - len(anomalies), job.threshold, job.pixel_threshold
    check_possible(
        str(asked.policy), n_normal, len(anomalies), value=asked.value, confidence=asked.confidence, strict=asked.strict
    )
    if pixels.policy is not None:
        has_masks = bool(anomalies) and all(sample.mask is not None for sample in anomalies)
        check_pixels_possible(pixels.policy, n_normal, has_masks, value=pixels.value)


def _check_once(
    index: Dataset, whole: str | None, job: JobConfig, split: SplitAssignment | None, limits: Limits, cache: Path
) -> list[Problem]:
    """All problems of a data set; reading every image takes a while, so the answer is kept for the same question."""
    if whole is None:
        return check(index, lambda rest: _divide(rest, job, split, index), limits=limits, progress=True)
    question = [
        __version__,
        whole,
        split.to_dict() if split else [job.data.protocol, job.data.max_train_anomalies, job.data.seed],
        asdict(limits),
    ]
    kept = cache / "checked" / f"{hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):  # not there, or damaged by a power failure
        return [Problem(**item) for item in json.loads(kept.read_text())]
    problems = check(index, lambda rest: _divide(rest, job, split, index), limits=limits, progress=True)
    with disk("write", kept), beside(kept) as part:
        part.write_text(json.dumps([asdict(problem) for problem in problems]))
    return problems
