"""What the queue's HTTP interface takes and gives, as its OpenAPI description has it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from adjobs.queue.folder import JobSpec
from adjobs.queue.states import JobState
from adjobs.queue.tokens import Role

MAX_JOBS = 100
"""Jobs of one request."""

JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{1,12}$", description="its id, or the first digits of it")]
User = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class SearchRequest(_Request):
    """How to search; the same as the options of ``adjobs tune``."""

    metrics: list[str] = Field([], max_length=20)
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    pruner: Literal["asha", "median", "none"] | None = None
    grace_period: int = Field(3, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)
    trials: int | None = Field(None, ge=1)
    max_concurrent: int | None = Field(None, ge=1)
    repeats: int = Field(2, ge=0, le=100)
    time_budget_s: float | None = Field(None, gt=0)


class JobRequest(_Request):
    """A job to submit."""

    verb: Literal["train", "tune", "compare", "retrain"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}$", description="for people")
    document: dict[str, Any] = Field(description="the job, as in a job file; the retraining, as in its file")
    space: dict[str, Any] | None = Field(None, description="the search space, as in a space file")
    options: SearchRequest | None = Field(None, description="of the search")
    priority: int = Field(0, ge=-1000, le=1000)
    after: list[str] = Field([], max_length=MAX_JOBS, description="ids of jobs that must be done before")
    working_dir: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the uploaded archive in which the job runs"
    )
    key: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{32}$",
        description="drawn by the client for a job of its own, even if an equal one lives; sent again, it is the same job; "
        "not for a retraining, of which one lives for each model",
    )

    def to_spec(self) -> JobSpec:
        """What a driver runs."""
        options = None if self.options is None else self.options.model_dump(exclude_unset=True)
        return JobSpec(self.verb, self.name, self.document, self.space, options, self.working_dir)


class SubmitRequest(_Request):
    """Jobs to submit: all of them, or none."""

    jobs: list[JobRequest] = Field(min_length=1, max_length=MAX_JOBS)


class PreflightRequest(SubmitRequest):
    """Jobs to check; none is submitted."""


class PriorityRequest(_Request):
    """A new priority."""

    priority: int = Field(ge=-1000, le=1000)


class PruneRequest(_Request):
    """Which jobs to forget."""

    days: float = Field(ge=0, le=36500, description="ended at least so many days ago")


class ErrorResponse(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="one line: what was got, what is allowed, what to do")


class HealthResponse(BaseModel):
    """The queue answers."""

    status: Literal["ok"]
    version: str


class IdentityResponse(BaseModel):
    """Whose token was sent."""

    user: str
    role: Role
    tracking_url: str | None = Field(description="of MLflow's pages")


class EstimateResponse(BaseModel):
    """What equal jobs took that are done."""

    jobs: int = Field(description="number of them")
    seconds: float = Field(description="median")
    memory_mib: float | None = Field(description="the most that driver and workers had in memory together")
    gpu_memory_mib: float | None = Field(description="the most that the workers had in GPU memory together")


class CheckedJobResponse(BaseModel):
    """What speaks against a job, and what it will take."""

    problem: str | None = Field(description="why it would be refused")
    missing: list[str] = Field(description="paths that it names and the queue's machine does not have")
    estimate: EstimateResponse | None = Field(description="null: no equal job is done")


class PreflightResponse(BaseModel):
    """What jobs that are submitted now would meet."""

    version: str = Field(description="of adjobs at the queue")
    python: str = Field(description="version, on the cluster")
    ray: str | None = Field(description="version; null: its head does not answer")
    position: int = Field(description="place of the first in the order, from 1")
    starts_in_s: float | None = Field(description="seconds until the first may start; null: not known")
    jobs: list[CheckedJobResponse]


class UploadResponse(BaseModel):
    """Whether the archive of a working directory is stored."""

    sha256: str
    exists: bool


class SubmissionResponse(BaseModel):
    """A submitted job."""

    id: str
    created: bool = Field(description="false: an equal job lives already, and this is it")
    position: int = Field(description="place in the order, from 1; 0 if it does not wait")


class SubmitResponse(BaseModel):
    """The submitted jobs, in the order of the request."""

    jobs: list[SubmissionResponse]


class ChangedJobResponse(BaseModel):
    """A job after a change. Times are in seconds since the epoch."""

    id: str
    state: JobState
    priority: int
    user: str
    name: str
    attempt: int = Field(description="0 before the first")
    max_attempts: int
    stop_requested: bool
    created_at: float
    started_at: float | None
    ended_at: float | None
    reason: str
    run_id: str | None = Field(description="of its MLflow run")
    progress: dict[str, Any] | None


class JobResponse(ChangedJobResponse):
    """A job with what it runs and its place."""

    verb: str | None
    method: str | None
    data: str | None
    position: int
    why: str


class ListResponse(BaseModel):
    """Jobs, the latest first."""

    jobs: list[JobResponse]


class ForeignJobResponse(JobResponse):
    """A job of Ray that the queue did not submit; it holds no slot of the queue."""

    foreign: Literal[True]


class ForeignListResponse(BaseModel):
    """Jobs of Ray that the queue did not submit, the latest first."""

    jobs: list[ForeignJobResponse]
    note: str | None = Field(description="why they are missing")


class ChangeResponse(BaseModel):
    """A row of a job's history."""

    time: float
    state: JobState
    attempt: int
    reason: str


class DetailsResponse(JobResponse):
    """A job with its history."""

    spec: dict[str, Any]
    history: list[ChangeResponse]
    explanation: str


class LogResponse(BaseModel):
    """The end of a log."""

    state: JobState
    attempt: int
    logs: str
    characters: int = Field(description="of the whole log")


ScheduleName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="of the schedule")]


class ScheduleRequest(_Request):
    """Retrain again and again. A schedule with the same name is replaced."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    cron: str = Field(max_length=200, description="five fields: minute, hour, day of month, month, day of week")
    time_zone: str = Field(max_length=100, description="of the cron expression, such as Europe/Berlin")
    document: dict[str, Any] = Field(description="the retraining, as in its file")


class ScheduleResponse(BaseModel):
    """A schedule. Times are in seconds since the epoch."""

    name: str
    user: str
    cron: str
    time_zone: str
    model: str = Field(description="registered model that is retrained")
    paused: bool
    created_at: float
    next_at: float | None = Field(description="when it is due; null: it is paused, or never comes")
    last_at: float | None = Field(description="when its last job was submitted; null: none, or it is pruned")
    last_job: str | None = Field(description="id; null: none yet")
    last_state: JobState | None = Field(description="of the last job; null: none, or it is pruned")
    reason: str = Field(description="what happened at its last time")


class ScheduleListResponse(BaseModel):
    """Schedules by name."""

    schedules: list[ScheduleResponse]


class SavedScheduleResponse(ScheduleResponse):
    """A schedule after it was saved."""

    replaced: bool = Field(description="whether there was one with this name")


class PruneResponse(BaseModel):
    """How many jobs were forgotten."""

    deleted: int
