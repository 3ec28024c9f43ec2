"""What a comparison will do, decided and checked before anything is started."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from adjobs import methods
from adjobs.comparison.config import CandidateSection, ComparisonConfig
from adjobs.config.job import JobConfig
from adjobs.config.settings import Settings
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import DataError, JobError
from adjobs.jobs.data import PreparedData, with_version
from adjobs.jobs.prepare import PreparedJob, prepare
from adjobs.jobs.prepare import with_absolute_paths as jobs_with_absolute_paths
from adjobs.tuning.objective import PIXEL_METRICS

CURVE_SHARE = 0.25
"""Of the budget, for the learning curves, where a method learns from labelled anomalies."""

CURVE_FRACTIONS = (0.5, 0.25)
"""Of the labelled anomalies, for the points of a learning curve."""

MIN_CURVE_ANOMALIES = 4
"""Fewer labelled anomalies than these have no quarter."""


@dataclass(frozen=True)
class Candidate:
    """A method in a comparison, or a point of its learning curve.

    Attributes:
        name: in the table.
        prepared: its job and data.
        train_anomalies: labelled anomalies that it learns from; None for a method that learns from none, or from all.
    """

    name: str
    prepared: PreparedJob
    train_anomalies: int | None = None

    @property
    def job(self) -> JobConfig:
        """What it trains."""
        return self.prepared.job

    @property
    def key(self) -> str:
        """What distinguishes it from all others of the comparison."""
        return self.name if self.train_anomalies is None else f"{self.name}@{self.train_anomalies}"

    @property
    def is_labelled(self) -> bool:
        """Whether it learns from labelled anomalies."""
        return self.job.supervision != "none"


@dataclass(frozen=True)
class ExcludedMethod:
    """A method that cannot be compared, and why."""

    name: str
    method: str
    reason: str


@dataclass(frozen=True)
class ComparisonPlan:
    """A comparison with nothing left open.

    Attributes:
        config: what the user asks for.
        candidates: the methods that these labels allow.
        excluded: the others.
        seconds_each: time limit of every training.
        curve_seconds: time for the learning curves; what the methods leave of theirs is added.
        settings: where MLflow, storage and Ray are.
    """

    config: ComparisonConfig
    candidates: tuple[Candidate, ...]
    excluded: tuple[ExcludedMethod, ...]
    seconds_each: float
    curve_seconds: float
    settings: Settings

    @property
    def data(self) -> PreparedData:
        """The data of all candidates."""
        return self.candidates[0].prepared.data

    @property
    def metric(self) -> str:
        """The metric that ranks."""
        return self.config.compare.metric

    @property
    def splits_digest(self) -> str:
        """Digest of the split."""
        return hashlib.sha256(json.dumps(self.data.split.to_dict(), sort_keys=True).encode()).hexdigest()

    def labels_of(self, ids: Sequence[str]) -> list[str]:
        """Labels of samples."""
        labels = {sample.id: sample.label for sample in self.data.dataset.samples}
        return [labels[name] for name in ids]

    def curve_of(self, candidate: Candidate) -> list[Candidate]:
        """The points of a candidate's learning curve beside the candidate itself, the most anomalies first.

        The anomalies of a point include those of all points with fewer.
        """
        split = candidate.prepared.data.split
        pairs = zip(split.train, self.labels_of(split.train), strict=True)
        anomalies = [name for name, label in pairs if label == "anomalous"]
        if not candidate.is_labelled or len(anomalies) < MIN_CURVE_ANOMALIES:
            return []
        order = np.random.default_rng([candidate.job.data.seed, len(anomalies)]).permutation(len(anomalies))
        counts = [max(1, round(len(anomalies) * fraction)) for fraction in CURVE_FRACTIONS]
        return [self._with_fewer(candidate, split, {anomalies[i] for i in order[count:]}, count) for count in counts]

    @staticmethod
    def _with_fewer(candidate: Candidate, split: SplitAssignment, withheld: set[str], count: int) -> Candidate:
        smaller = replace(split, train=tuple(name for name in split.train if name not in withheld))
        data = candidate.prepared.data._replace(split=smaller)
        return Candidate(candidate.name, candidate.prepared._replace(data=data), count)


def make_plan(config: ComparisonConfig, settings: Settings) -> ComparisonPlan:
    """Find out which methods the data allow, and how long each may train.

    Raises:
        AdjobsError: the data cannot be used, or allow no method.
    """
    config = config.model_copy(update={"data": with_version(config.data)})
    prepared: list[tuple[CandidateSection, PreparedJob]] = []
    errors: dict[str, JobError | DataError] = {}
    for section in config.candidates:
        try:
            prepared.append((section, _prepare(config, section, settings)))
        except (JobError, DataError) as error:
            errors[section.label] = error
    if not prepared:
        reasons = {str(error) for error in errors.values()}
        first = next(iter(errors.values()))
        if len(reasons) == 1:
            raise first
        raise JobError(f"none of {len(errors)} methods can be compared on these data, the first: {first}") from first
    excluded = [
        ExcludedMethod(section.label, section.method, str(errors[section.label]))
        for section in config.candidates
        if section.label in errors
    ]
    curve_seconds = config.compare.budget_s * CURVE_SHARE if _has_curve(config, [job for _, job in prepared]) else 0.0
    seconds_each = (config.compare.budget_s - curve_seconds) / len(prepared)
    candidates = tuple(Candidate(section.label, _with_limit(job, seconds_each)) for section, job in prepared)
    return ComparisonPlan(config, candidates, tuple(excluded), seconds_each, curve_seconds, settings)


def with_absolute_paths(config: ComparisonConfig) -> ComparisonConfig:
    """The comparison with absolute paths: workers and a later resume run in other folders."""
    data = jobs_with_absolute_paths(config.first_job).data
    update = {"data": config.data.model_copy(update={"uri": data.uri, "split": data.split})}
    if config.compare.methods is None:
        return config.model_copy(update=update)
    sections = []
    for section in config.compare.methods:
        params = jobs_with_absolute_paths(config.job(section)).params
        sections.append(section.model_copy(update={"params": {name: params[name] for name in section.params}}))
    compare = config.compare.model_copy(update={"methods": tuple(sections)})
    return config.model_copy(update={**update, "compare": compare})


def _prepare(config: ComparisonConfig, section: CandidateSection, settings: Settings) -> PreparedJob:
    """Job and data of a method, checked for what the metric needs."""
    job = config.job(section)
    prepared = prepare(job, settings)
    data, metric = prepared.data, config.compare.metric
    samples = {sample.id: sample for sample in data.dataset.samples}
    val = [samples[name] for name in data.split.val]
    if {sample.label for sample in val} != {"normal", "anomalous"}:
        raise DataError(
            "the validation split lacks normal or anomalous images, so nothing can be compared on it; use another "
            "data.protocol, or label more images"
        )
    if metric in PIXEL_METRICS:
        if any(sample.label == "anomalous" and sample.mask is None for sample in val):
            raise DataError(f"{metric}: an anomalous image of the validation split has no mask; choose an image metric")
        if not methods.gives_map(job.method, job.params):
            raise JobError(f"{metric}: {job.method} has no anomaly maps{methods.map_param_hint(job.method)}")
    return prepared


def _has_curve(config: ComparisonConfig, prepared: Sequence[PreparedJob]) -> bool:
    data = prepared[0].data
    train = set(data.split.train)
    n_anomalies = sum(sample.label == "anomalous" for sample in data.dataset.samples if sample.id in train)
    is_labelled = any(one.job.supervision != "none" for one in prepared)
    return config.compare.learning_curve and is_labelled and n_anomalies >= MIN_CURVE_ANOMALIES


def _with_limit(prepared: PreparedJob, seconds: float) -> PreparedJob:
    job = prepared.job
    limited = job.model_copy(update={"train": job.train.model_copy(update={"max_seconds": seconds})})
    return prepared._replace(job=limited)
