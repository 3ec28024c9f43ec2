"""What to retrain, when, and what the new model must show: a file ``retrain.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, time
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, ValidationError, field_validator

from adjobs.config.duration import HINT, to_seconds
from adjobs.config.job import JobConfig, Section, TrackSection
from adjobs.config.resolve import explain, read_yaml, resolve
from adjobs.documents import dump_yaml
from adjobs.drift.options import MAX_ALPHA, MAX_SHARE, MIN_ALPHA
from adjobs.errors import JobError, choices, join_problems, shorten, shown
from adjobs.evaluation.gate_policy import GatePolicy
from adjobs.paths import expand_home

OWN_DATA_KEYS = ("uri", "format", "version", "protocol", "split", "max_train_anomalies", "seed")
"""Keys of a job's data that the data set decides."""


class Hours(NamedTuple):
    """A span of a day, which may pass midnight; the end is not in it."""

    start: time
    end: time

    def contain(self, moment: time) -> bool:
        """Whether a time of the day lies in the span."""
        if self.start <= self.end:
            return self.start <= moment < self.end
        return moment >= self.start or moment < self.end


class DriftSection(Section):
    """When images of the line count as drifted."""

    images: str = Field(min_length=1, description="recent images: a folder, s3://bucket/prefix or glob")
    alpha: float = Field(
        0.01, ge=MIN_ALPHA, le=MAX_ALPHA, description="share of the checks of unchanged images that report drift all the same"
    )
    max_anomalous_share: float = Field(
        0.05, ge=0, lt=MAX_SHARE, description="share of the recent images that may be anomalous without counting as drift"
    )


class TriggerSection(Section):
    """When a pass is due: new labels, age or drift, whichever comes first, within the hours."""

    new_labels: int | None = Field(
        20, ge=1, description="labelled images that the champion has not been trained or tested on; null: they are no reason"
    )
    max_age: str | None = Field(None, description="age of the champion, such as 30d; null: age is no reason")
    drift: DriftSection | None = Field(
        None, description="recent images, which are compared with the champion's; null: not compared"
    )
    hours: str | None = Field(None, description="hours in which a pass may start, such as 20:00-06:00; null: any")
    time_zone: str = Field("UTC", description="of the hours, such as Europe/Berlin")

    @field_validator("max_age")
    @classmethod
    def _age_is_a_duration(cls, value: str | None) -> str | None:
        if value is not None and to_seconds(value) is None:
            raise ValueError(HINT)
        return value

    @field_validator("hours")
    @classmethod
    def _hours_are_a_span(cls, value: str | None) -> str | None:
        if value is not None and _parse_hours(value) is None:
            raise ValueError("must be two different times of the day, such as 20:00-06:00")
        return value

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, value: str) -> str:
        zones = available_timezones()
        if value not in zones:
            raise ValueError(f"unknown time zone {shown(value)}; {choices(value, zones)}")
        return value

    @property
    def max_age_s(self) -> float | None:
        """Seconds of ``max_age``."""
        return None if self.max_age is None else to_seconds(self.max_age)

    def allow(self, moment: datetime) -> bool:
        """Whether a pass may start at a time, which has a zone."""
        hours = None if self.hours is None else _parse_hours(self.hours)
        return hours is None or hours.contain(moment.astimezone(ZoneInfo(self.time_zone)).time())


class RetrainSearchSection(Section):
    """A search of parameters before the training that the gate compares."""

    space: dict[str, Any] | str = Field(description="the space, or its file")
    trials: int | None = Field(None, ge=1, description="number of trials; null: as 'adjobs tune' chooses")
    time_budget: str | None = Field(None, description="time for the trials, such as 2h; null: no limit")
    metrics: tuple[str, ...] = Field((), strict=False, description="what to search for; empty: as 'adjobs tune' chooses")

    @field_validator("time_budget")
    @classmethod
    def _budget_is_a_duration(cls, value: str | None) -> str | None:
        if value is not None and to_seconds(value) is None:
            raise ValueError(HINT)
        return value


class WebhookSection(Section):
    """Where the summary of a pass is sent."""

    url: str = Field(description="http:// or https:// address that gets a POST with the summary as JSON")
    secret_file: str | None = Field(
        None, description="file with the key of the signature, on the machine that runs the pass; null: not signed"
    )

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, value: str) -> str:
        address = urlsplit(value)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("must be an http:// or https:// address")
        if address.username or address.password:
            raise ValueError("must not hold a password, which would be stored with the schedule; use secret_file")
        return value


class RetrainConfig(Section):
    """A retraining, as its file describes it."""

    model: str = Field(min_length=1, max_length=256, description="registered model that gets the new version")
    dataset: str = Field(min_length=1, description="data set with versions, made with 'adjobs dataset create': folder or s3://…")
    inbox: str | None = Field(
        None, min_length=1, description="images with labels that a pass adds to the data set: folder or s3://…; null: none"
    )
    inbox_format: str = Field("auto", description="format of the inbox; auto: recognised by its files")
    job: dict[str, Any] = Field(description="the training: a job without data.uri and track.model, or its file")
    start_from: Literal["scratch", "champion"] = Field(
        "scratch", description="weights that the training starts with: those of its seed, or the champion's"
    )
    search: RetrainSearchSection | None = Field(None, description="a search before the training; null: none")
    when: TriggerSection = TriggerSection()
    gate: GatePolicy = GatePolicy()
    promote: bool = Field(
        True, description="let a version that the gate accepts become champion; false: challenger, which a person promotes"
    )
    webhook: WebhookSection | None = Field(None, description="address that gets the summary; null: none")

    @field_validator("model")
    @classmethod
    def _model_fits_a_uri(cls, value: str) -> str:
        TrackSection(model=value)
        return value

    def to_yaml(self) -> str:
        """As a file."""
        return dump_yaml(self.model_dump(mode="json"))

    def training_job(self, version: int | None = None, champion: int | None = None) -> JobConfig:
        """The job that trains on a version of the data set. The pass registers its model itself.

        Args:
            version: of the data set; None: the newest.
            champion: version of the model to start from, if the retraining says so; None: there is none.

        Raises:
            JobError: the job is wrong.
        """
        data = {
            **self.job.get("data", {}),
            "uri": self.dataset,
            "format": "versioned",
            "version": version,
            "protocol": "official",
        }
        track = {**(self.job.get("track") or {}), "model": None}
        train = dict(self.job.get("train") or {})
        if self.start_from == "champion" and champion is not None:
            train["start_from"] = f"models:/{self.model}/{champion}"
        return resolve({**self.job, "data": data, "track": track, "train": train}, source="job")


def read_retraining(path: Path) -> RetrainConfig:
    """Read a file; files that it names, relative to its own folder, become part of it.

    Raises:
        JobError: the file cannot be read, or is wrong.
    """
    document = read_yaml(path, "retraining", "give a YAML file with model, dataset and job")
    if not isinstance(document, dict):
        raise JobError(f"retraining '{path}': got {type(document).__name__}; must be a mapping with model, dataset and job")
    document = dict(document)
    if isinstance(document.get("job"), str):
        document["job"] = _read_named(path, document["job"], "job")
    search = document.get("search")
    if isinstance(search, dict) and isinstance(search.get("space"), str):
        document["search"] = {**search, "space": _read_named(path, search["space"], "search space")}
    return with_absolute_paths(parse_retraining(document, str(path)), path.parent)


def parse_retraining(document: Mapping[str, Any], source: str = "retraining") -> RetrainConfig:
    """Validate a retraining, with its job and its search space.

    Raises:
        JobError: every problem at once, each with what was got and what is allowed.
    """
    try:
        config = RetrainConfig.model_validate(dict(document))
    except ValidationError as error:
        raise JobError(f"{shorten(source)}: {join_problems(explain(error, RetrainConfig))}") from error
    problems = list(_problems(config))
    if problems:
        raise JobError(f"{shorten(source)}: {join_problems(problems)}")
    return config


def with_absolute_paths(config: RetrainConfig, folder: Path) -> RetrainConfig:
    """The same with absolute paths: a pass may run in another folder. Relative ones start at ``folder``."""

    def absolute(text: str | None) -> str | None:
        return text if text is None or "://" in text else str((folder / expand_home(text)).absolute())

    when = config.when
    if when.drift is not None:
        when = when.model_copy(update={"drift": when.drift.model_copy(update={"images": absolute(when.drift.images)})})
    webhook = config.webhook
    if webhook is not None:
        webhook = webhook.model_copy(update={"secret_file": absolute(webhook.secret_file)})
    return config.model_copy(
        update={"dataset": absolute(config.dataset), "inbox": absolute(config.inbox), "when": when, "webhook": webhook}
    )


def _problems(config: RetrainConfig) -> list[str]:
    data = config.job.get("data", {})
    if not isinstance(data, dict):
        return [f"job.data: got {shown(data)}; must be a mapping such as image_size: 256"]
    problems = [f"job.data.{key}: the data set decides it; remove the key" for key in OWN_DATA_KEYS if data.get(key) is not None]
    track = config.job.get("track", {})
    if track == "none" or (track is None and "track" in config.job):
        problems.append("job.track: got none, a retraining is recorded in MLflow; remove the key")
    elif isinstance(track, dict) and track.get("model") is not None:
        problems.append(f"job.track.model: got {shown(track['model'])}; the key model says it; remove this one")
    if problems:
        return problems
    try:
        job = config.training_job()
        if config.search is not None:
            _check_search(config.search, job)
    except JobError as error:
        problems.append(str(error))
    return problems


def _check_search(search: RetrainSearchSection, job: JobConfig) -> None:
    from adjobs.tuning.objective import parse_objectives
    from adjobs.tuning.space import parse_space

    if isinstance(search.space, str):
        raise JobError(f"search.space: got {shown(search.space)}; must be a mapping, or a file next to the retraining's own")
    parse_space(search.space, "search.space").check(job)
    parse_objectives(search.metrics, job)


def _read_named(path: Path, name: str, kind: str) -> Any:
    return read_yaml(path.parent / expand_home(name), kind, f"it is named in {path}; give a file that exists")


def _parse_hours(text: str) -> Hours | None:
    match = re.fullmatch(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})", text.strip())
    if match is None:
        return None
    try:
        hours = Hours(time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4])))
    except ValueError:
        return None
    return None if hours.start == hours.end else hours
