"""A job's data: opened, checked and split before anything is started."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from adjobs import methods
from adjobs.config.job import DataSection, JobConfig
from adjobs.config.settings import Settings
from adjobs.data.checks.preflight import inspect_dataset, without_invalid
from adjobs.data.dataset import Dataset, fingerprint
from adjobs.data.image_reading import ImageReading
from adjobs.data.open import open_dataset
from adjobs.data.problem import OUT_OF_MEMORY, DataRequirements, Problem
from adjobs.data.splits.assignment import SplitAssignment, check_split, make_split, read_split
from adjobs.data.versions.reading import newest_version
from adjobs.errors import DataError, JobError
from adjobs.jobs.answers import answer_path, keep_answer, read_answer
from adjobs.methods.contract import Spec
from adjobs.metrics.pixel_threshold import check_pixels_possible
from adjobs.metrics.threshold import check_possible
from adjobs.paths import expand_home
from adjobs.version import __version__


class PreparedData(NamedTuple):
    """Data that passed all checks.

    Attributes:
        dataset: the valid samples.
        fingerprint: of them.
        problems: of all samples.
        split: which sample is in which split.
        reading: how images are read, in training and by the detector that comes of it.
    """

    dataset: Dataset
    fingerprint: str
    problems: list[Problem]
    split: SplitAssignment
    reading: ImageReading


def with_version(data: DataSection) -> DataSection:
    """The section with the newest version's number, if the data set has versions and the section does not name one.

    Workers, and a later resume, then read the same version, whatever is added meanwhile.

    Raises:
        StorageError: S3 does not answer.
    """
    if data.version is not None:
        return data
    return data.model_copy(update={"version": newest_version(data.uri)})


def prepare_data(job: JobConfig, settings: Settings, split: SplitAssignment | None = None) -> PreparedData:
    """Open, check and split the data, before anything is started.

    Args:
        job: the resolved job.
        settings: where the cache is.
        split: of an earlier run that is resumed; None makes or reads the job's own.

    Raises:
        DataError: there are problems and ``data.skip_invalid`` is off, or a split lacks what the job needs.
        JobError: the split or the threshold is impossible with these data.
    """
    if split is None and job.data.split is not None:
        split = _split_from_file(job.data.split, job.data.max_train_anomalies)
    dataset = open_dataset(job.data.uri, job.data.format, cache=settings.cache, options=job.data.read_options)
    _refuse_other_protocol(job, dataset, split)
    # What is impossible with all images is refused before they are read.
    _refuse_impossible(job, dataset, _assign(dataset, job, split, dataset))
    complete = _fingerprint_or_none(dataset)
    _refuse_changed_version(job.data.uri, dataset, complete)
    problems, reading = _cached_check(dataset, complete, job, split, settings.cache)
    _refuse_problems(job, problems)
    valid = without_invalid(dataset, problems)
    assignment = _assign(valid, job, split, dataset)
    _refuse_impossible(job, valid, assignment)
    unchanged = len(valid.samples) == len(dataset.samples)
    return PreparedData(valid, complete if complete and unchanged else fingerprint(valid), problems, assignment, reading)


def _refuse_other_protocol(job: JobConfig, dataset: Dataset, split: SplitAssignment | None) -> None:
    """Refuse to split a version again: an image would be in one split now and in another when the data set has grown."""
    if dataset.version is not None and split is None and job.data.protocol != "official":
        raise JobError(
            f"data.protocol: got {job.data.protocol}, but data set '{job.data.uri}' has versions, in which splits are kept; set "
            "data.protocol=official, or give a file as data.split"
        )


def _refuse_changed_version(uri: str, dataset: Dataset, complete: str | None) -> None:
    """Refuse a version whose files are not those that it was made of. A file that cannot be read is reported by the check."""
    if dataset.version is not None and complete not in (None, dataset.version.fingerprint):
        raise DataError(
            f"data '{uri}': the files of version {dataset.version.number} in {dataset.root} have changed since it was made; "
            "restore them from a backup or, where they were downloaded, delete this folder"
        )


def ensure_same_data(uri: str, fingerprint: str, before: str, origin: str, remedy: str) -> None:
    """Refuse to go on with other data than before.

    Args:
        uri: of the data.
        fingerprint: of what is there now.
        before: the fingerprint that is needed.
        origin: whose that is, such as ``run 1a2b was started with``.
        remedy: what to do.

    Raises:
        DataError: the two differ.
    """
    if fingerprint != before:
        raise DataError(f"data '{uri}': fingerprint {fingerprint[:16]}, {origin} {before[:16]}; {remedy}")


def requirements_of(spec: Spec) -> DataRequirements:
    """What a method needs of its data, whatever the threshold's policy."""
    return DataRequirements(needs_train_anomalies="none" not in spec.supervisions, selects_on_val=spec.selection.rule == "best")


def _needs_train_anomalies(job: JobConfig) -> bool:
    """Whether the method, with the job's parameters, learns from labelled anomalies."""
    return job.method_config().supervision_used != "none"


def _split_from_file(path: str, max_train_anomalies: int | None) -> SplitAssignment:
    if max_train_anomalies is not None:
        raise JobError(
            f"data.max_train_anomalies: got {max_train_anomalies} beside data.split {path}, which says itself which anomalies "
            "train; remove one of the two"
        )
    return read_split(expand_home(path))


def _fingerprint_or_none(dataset: Dataset) -> str | None:
    """The fingerprint; None where a file cannot be read, which the check reports with all other problems."""
    try:
        return fingerprint(dataset, progress=True)
    except DataError:
        return None


def _assign(valid: Dataset, job: JobConfig, split: SplitAssignment | None, dataset: Dataset) -> SplitAssignment:
    """The job's split of the valid samples of a data set."""
    if split is None:
        return make_split(valid, job.data.protocol, max_train_anomalies=job.data.max_train_anomalies, seed=job.data.seed)
    ids = {sample.id for sample in valid.samples}
    return check_split(valid, split, excluded=[sample.id for sample in dataset.samples if sample.id not in ids])


def _refuse_problems(job: JobConfig, problems: list[Problem]) -> None:
    errors = [problem for problem in problems if problem.severity == "error"]
    of_dataset = [problem for problem in errors if not problem.sample]
    if not errors or (job.data.skip_invalid and not of_dataset):
        return
    first = (of_dataset if job.data.skip_invalid else errors)[0]
    count = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
    action = f"list all with 'adjobs data check {job.data.uri}' and fix them"
    action += "" if of_dataset else ", or set data.skip_invalid=true"
    raise DataError(f"data '{job.data.uri}': {count} found, first: {first.sample or 'the data set'}: {first.message}; {action}")


def _refuse_impossible(job: JobConfig, dataset: Dataset, split: SplitAssignment) -> None:
    """Refuse, before hours of training, labels that the training split lacks and thresholds that validation cannot give."""
    samples = {sample.id: sample for sample in dataset.samples}
    if _needs_train_anomalies(job) and not any(samples[name].label == "anomalous" for name in split.train):
        raise DataError(
            f"method {job.method} learns from labelled anomalies ({job.supervision}); the training split has none; label some, "
            "or change data.protocol, data.max_train_anomalies, params or method; 'adjobs methods' lists what each needs"
        )
    val = [samples[name] for name in split.val]
    anomalies = [sample for sample in val if sample.label == "anomalous"]
    n_normal = len(val) - len(anomalies)
    check_possible(job.threshold.to_policy(), n_normal, len(anomalies))
    pixel_policy = job.pixel_threshold.to_policy()
    if pixel_policy is not None:
        has_masks = bool(anomalies) and all(sample.mask is not None for sample in anomalies)
        check_pixels_possible(pixel_policy, n_normal, has_masks)


def _cached_check(
    dataset: Dataset, complete: str | None, job: JobConfig, split: SplitAssignment | None, cache: Path
) -> tuple[list[Problem], ImageReading]:
    """All problems of a data set, and how it is read; reading every image takes a while, so the answer is cached."""
    requirements = replace(requirements_of(methods.spec(job.method)), needs_train_anomalies=_needs_train_anomalies(job))
    scale = job.data.pixel_scale

    def check() -> tuple[list[Problem], ImageReading]:
        report = inspect_dataset(
            dataset, lambda valid: _assign(valid, job, split, dataset), requirements=requirements, scale=scale, progress=True
        )
        return report.problems, report.reading

    if complete is None:
        return check()
    split_key = split.to_dict() if split else [job.data.protocol, job.data.max_train_anomalies, job.data.seed]
    of_reader = [asdict(problem) for problem in dataset.problems]  # of label files, which the fingerprint does not cover
    path = answer_path(cache, "checked", [__version__, complete, split_key, asdict(requirements), of_reader, scale])
    document = read_answer(path)
    with contextlib.suppress(ValueError, TypeError, KeyError):  # of another form
        if document is not None:
            return [Problem(**item) for item in document["problems"]], ImageReading(**document["reading"])
    problems, reading = check()
    if not any(problem.kind == OUT_OF_MEMORY for problem in problems):  # which may not come again
        keep_answer(
            path, {"problems": [asdict(problem) for problem in problems], "reading": reading.to_dict()}, "checks the data"
        )
    return problems, reading
