"""What to compare: a job file without a method, with a section ``compare``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from adjobs import methods
from adjobs.config.duration import HINT, to_seconds
from adjobs.config.job import (
    DataSection,
    JobConfig,
    PixelThresholdSection,
    Section,
    ThresholdSection,
    TrackSection,
    TrainSection,
)
from adjobs.config.resolve import explain, resolve
from adjobs.documents import dump_yaml
from adjobs.errors import JobError, join_problems, shorten
from adjobs.tuning.objective import IMAGE_METRICS, PIXEL_METRICS

METRICS = (*IMAGE_METRICS, *PIXEL_METRICS)
DEFAULT_BUDGET = "30m"
MAX_METHODS = 50


class CandidateSection(Section):
    """A method with parameters of its own."""

    method: str = Field(description="the method; see 'adjobs methods'")
    name: str | None = Field(None, description="in the table; null: that of the method")
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the method")
    preset: str | None = Field(None, description="named set of params")
    seed: int | None = Field(
        None, ge=0, lt=2**32, description="in place of train.seed; a method with several seeds and names shows what chance does"
    )

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
            raise ValueError("must be up to 64 letters, digits, '.', '_' and '-', the first a letter or a digit")
        return value

    @property
    def label(self) -> str:
        """The name that the candidate has in the table."""
        return self.name or self.method


class CompareSection(Section):
    """What is compared, and how long each method may train."""

    methods: tuple[CandidateSection, ...] | None = Field(
        None,
        strict=False,
        description="names of methods, or mappings with method, name, params, preset and seed; null: all that the labels allow",
    )
    budget: str = Field(
        DEFAULT_BUDGET, description="time for all trainings, such as 30m or 8h; every method gets the same share of it"
    )
    metric: str = Field("image_auroc", description=f"metric of the validation split that ranks the methods: {', '.join(METRICS)}")
    learning_curve: bool = Field(
        True, description="train methods that learn from labelled anomalies with half and a quarter of these, too"
    )

    @field_validator("methods", mode="before")
    @classmethod
    def _names_are_methods(cls, value: object) -> object:
        if value is None:
            return None
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_METHODS:
            raise ValueError(f"must be a list of 1 to {MAX_METHODS} methods")
        if not all(isinstance(item, str | Mapping) for item in value):
            raise ValueError("must have names of methods, or mappings with method, name, params, preset and seed")
        return [{"method": item} if isinstance(item, str) else item for item in value]

    @field_validator("budget")
    @classmethod
    def _budget_is_a_duration(cls, value: str) -> str:
        if to_seconds(value) is None:
            raise ValueError(HINT)
        return value

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, value: str) -> str:
        if value not in METRICS:
            raise ValueError(f"must be one of {', '.join(METRICS)}")
        return value

    @model_validator(mode="after")
    def _names_are_unique(self) -> CompareSection:
        counts = Counter(item.label for item in self.methods or ())
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"got two methods with the name {twice[0]}; give one of them another name")
        return self

    @property
    def budget_s(self) -> float:
        """Seconds of the budget."""
        seconds = to_seconds(self.budget)
        assert seconds is not None  # validated
        return seconds


class ComparisonConfig(Section):
    """A comparison: the sections of a job that all methods share, and what is compared."""

    compare: CompareSection = CompareSection()
    data: DataSection
    train: TrainSection = TrainSection()
    threshold: ThresholdSection = ThresholdSection()
    pixel_threshold: PixelThresholdSection = PixelThresholdSection()
    track: TrackSection = Field(TrackSection(), description="where the runs are recorded")

    @model_validator(mode="after")
    def _time_is_shared(self) -> ComparisonConfig:
        if self.train.max_seconds is not None:
            raise ValueError("train.max_seconds: every method gets an equal share of compare.budget; remove the key")
        return self

    def to_yaml(self) -> str:
        """As a file."""
        return dump_yaml(self.model_dump(mode="json"))

    @property
    def candidates(self) -> tuple[CandidateSection, ...]:
        """What is compared, in the order of the table before it is ranked."""
        if self.compare.methods is not None:
            return self.compare.methods
        return tuple(CandidateSection(method=name) for name in methods.names())

    @property
    def first_job(self) -> JobConfig:
        """The job of a candidate that can be resolved: its sections but for the method's own are those of all."""
        errors = []
        for candidate in self.candidates:
            try:
                return self.job(candidate)
            except JobError as error:
                errors.append(error)
        raise errors[0]

    def job(self, candidate: CandidateSection) -> JobConfig:
        """The job of a candidate, resolved.

        Raises:
            JobError: method or parameters are wrong.
        """
        shared = self.model_dump(mode="json", exclude={"compare"})
        own = {"method": candidate.method, "params": candidate.params, "preset": candidate.preset}
        if candidate.seed is not None:
            shared["train"]["seed"] = candidate.seed
        return resolve({**shared, **own}, source=f"compare.methods: {candidate.label}")


def parse_comparison(document: Mapping[str, Any], source: str = "comparison") -> ComparisonConfig:
    """Validate a comparison, with the parameters of all methods that it names.

    Raises:
        JobError: every problem at once, each with what was got and what is allowed.
    """
    document = {**document, "compare": {} if document.get("compare") is None else document.get("compare")}
    own = [key for key in ("method", "params", "preset") if key in document]
    if own:
        raise JobError(f"{shorten(source)}: {own[0]}: a comparison has none of its own; move it into compare.methods")
    if document.get("track") in ("none", None) and "track" in document:
        raise JobError(f"{shorten(source)}: track: got none, a comparison is recorded in MLflow; remove the key")
    try:
        config = ComparisonConfig.model_validate(document)
    except ValidationError as error:
        raise JobError(f"{shorten(source)}: {join_problems(explain(error, ComparisonConfig))}") from error
    problems = []
    for candidate in config.compare.methods or ():
        try:
            config.job(candidate)
        except JobError as error:
            problems.append(str(error))
    if problems:
        raise JobError(f"{shorten(source)}: {join_problems(problems)}")
    return config
