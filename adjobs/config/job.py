"""The job file: a frozen, validated description of a run, the same for train, submit and resume."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from adjobs import methods
from adjobs.data.image_reading import PixelScale
from adjobs.data.labels.masks import LabelDetail, coarser
from adjobs.data.reading import NORMAL_CLASSES, ReadOptions
from adjobs.documents import dump_yaml
from adjobs.methods.contract import MethodConfig
from adjobs.metrics import CONFIDENCE
from adjobs.metrics.policies import DEFAULT_MAX_FPR, DEFAULT_PIXEL_MAX_FPR, Policy, ThresholdPolicy

MAX_WORKERS = 1024


class Section(BaseModel):
    """A section of the job file: frozen; unknown keys, and values of another type, are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSection(Section):
    """Images, labels and splits."""

    uri: str = Field(min_length=1, description="folder, s3://bucket/prefix, or 'elpv'")
    format: str = Field("auto", description="format of the data set; auto: recognised by its files")
    version: int | None = Field(
        None, ge=1, description="version of a data set with versions; null: the newest when the job starts"
    )
    protocol: str = Field("holdout", description="how the data set is split into train, validation and test")
    max_train_anomalies: int | None = Field(
        None, ge=0, description="maximum number of labelled anomalies in the training split; null: no limit"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the split")
    image_size: int = Field(256, ge=32, le=4096, multiple_of=32, description="side in pixels; images are resized to a square")
    split: str | None = Field(
        None, min_length=1, description="JSON file of a split; replaces protocol, max_train_anomalies and seed"
    )
    label_detail: LabelDetail = Field(
        "full", description="finest labels of anomalies that training uses; full: all that the data set has"
    )
    block_size: int = Field(8, ge=2, le=512, description="side of a block in pixels, for label_detail: blocks")
    normal_classes: tuple[str, ...] | None = Field(
        None,
        strict=False,
        description="names of classes and choices that mean normal; null: good, ok, i.O., pass, no defect and the like",
    )
    follow_links: bool = Field(False, description="follow symbolic links that lead out of the data set")
    bit_depth: Literal["auto", 8, 10, 12, 14, 16] = Field(
        "auto",
        description="bits of the camera, for images with more than 8 bits; auto: the smallest depth that holds all their values",
    )
    value_range: tuple[float, float] | None = Field(
        None,
        strict=False,
        description="pixel values of black and white, for images with more than 8 bits; required for floating-point and negative "
        "ones; replaces bit_depth",
    )
    skip_invalid: bool = Field(
        False, description="leave out the images that 'adjobs data check' reports, instead of refusing the job"
    )

    @model_validator(mode="after")
    def _check_value_range(self) -> Self:
        if self.value_range is not None:
            low, high = self.value_range
            order = f"got value_range [{low:g}, {high:g}]; give the value of black, then a larger one of white"
            _refuse(None if 0 < high - low < math.inf else order)
            _refuse(None if self.bit_depth == "auto" else "got bit_depth and value_range; give one of the two")
        return self

    @property
    def pixel_scale(self) -> PixelScale:
        """What the job says about images of more than 8 bits."""
        return PixelScale(None if self.bit_depth == "auto" else self.bit_depth, self.value_range)

    @property
    def read_options(self) -> ReadOptions:
        """How the files are read."""
        classes = NORMAL_CLASSES if self.normal_classes is None else self.normal_classes
        return ReadOptions(classes, self.follow_links, self.version)


WorkerCount = Annotated[int, Field(ge=1, le=MAX_WORKERS)]


class TrainSection(Section):
    """Resources of the training, restarts, randomness and validation."""

    workers: WorkerCount | Annotated[tuple[WorkerCount, WorkerCount], Field(strict=False)] = Field(
        1,
        description="number of Ray Train workers, which share each batch equally; two numbers, such as [1, 4]: the smallest and "
        "the largest, as many as the cluster has room for",
    )
    gpus_per_worker: Annotated[float, Field(ge=0, le=64)] | Literal["auto"] = Field(
        "auto", description="GPUs of each worker; auto: 1 if the cluster has one for each, else 0"
    )
    cpus_per_worker: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto",
        description="CPUs of each worker; auto: an equal share of the cluster, at most 8; 1 in a search and its final training",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on GPUs that support it, else fp32")
    compile: Literal["auto", "off"] = Field(
        "auto",
        description="auto: a single worker on a GPU captures its steps as CUDA graphs, which are launched as one; off: each "
        "operation is launched by itself",
    )
    gpu_cache: float = Field(
        0.25,
        ge=0,
        le=0.9,
        description="share of a GPU's free memory that the decoded training images may take; 0, or if they do not fit: they are "
        "copied for each step",
    )
    max_retries: int = Field(3, ge=0, le=100, description="restarts from the last checkpoint after a worker was lost")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of initial weights, sample order and simulated anomalies")
    start_from: str | None = Field(
        None,
        min_length=1,
        description="run or model of the same method, parameters and data set; the training starts with its weights; null: with "
        "those of the seed",
    )
    validate_every: int = Field(
        1,
        ge=1,
        description="intervals between two validations: epochs, or 100 steps each in a stage counted in steps",
    )
    max_seconds: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="time limit of the training with its validations, shared equally by the stages that train; a stage that "
        "reaches its share ends early; null: no limit",
    )

    @field_validator("workers", mode="before")
    @classmethod
    def _check_workers(cls, value: object) -> object:
        """Refuse in one sentence what neither form allows."""
        counts: Any = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
        if any(type(count) is not int or not 1 <= count <= MAX_WORKERS for count in counts) or counts[1] % counts[0]:
            allowed = f"a whole number from 1 to {MAX_WORKERS}, or two of them, of which the second is a multiple of the first"
            raise ValueError(f"must be {allowed}, such as [1, 4]")
        return value

    @property
    def min_workers(self) -> int:
        """Without so many workers nothing is trained."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def max_workers(self) -> int:
        """Number of workers that the batches are made for."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @property
    def worker_counts(self) -> tuple[int, ...]:
        """The numbers of workers that the training may have, ascending: they share equally what the largest number does."""
        counts = range(self.min_workers, self.max_workers + 1)
        return tuple(count for count in counts if self.max_workers % count == 0)


class ThresholdSection(Section):
    """How the decision threshold for images is chosen on the validation split."""

    policy: Policy | None = Field(None, description="null: the method's default policy and value")
    value: float | None = Field(
        None,
        description="fixed: the threshold; max_fpr: largest false-alarm rate; miss_cost: cost of a miss relative to that of a "
        "false alarm; defect_ratio: share of images that raises an alarm, null: the share of anomalies in validation",
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="confidence of the reported upper bound on the false-alarm rate")
    strict: bool = Field(False, description="max_fpr: value limits the upper bound, not only the rate on validation")

    @model_validator(mode="after")
    def _check_value(self) -> Self:
        """Refuse a wrong value before the training, not after it."""
        if self.policy is not None:
            value = DEFAULT_MAX_FPR if self.policy == "max_fpr" and self.value is None else self.value
            _refuse(ThresholdPolicy(self.policy, value, strict=self.strict).find_fault())
        return self

    def to_policy(self) -> ThresholdPolicy:
        """The policy of a resolved job, in which it is set."""
        return ThresholdPolicy(str(self.policy), self.value, self.confidence, self.strict)


class PixelThresholdSection(Section):
    """How the threshold for pixels of anomaly maps is chosen on the validation split."""

    policy: Policy | None = Field(
        None,
        description=f"as for threshold; null: max_f1 where validation has masks, else max_fpr {DEFAULT_PIXEL_MAX_FPR}",
    )
    value: float | None = Field(None, description="as for threshold, counted in pixels; max_fpr: in those of normal images")

    @model_validator(mode="after")
    def _check_value(self) -> Self:
        """Refuse a wrong value before the training, not after it."""
        if self.policy is None:
            _refuse(None if self.value is None else f"got value {self.value} without a policy; give a policy, or no value")
        elif self.policy != "max_fpr" or self.value is not None:
            _refuse(ThresholdPolicy(self.policy, self.value).find_fault())
        return self

    def to_policy(self, confidence: float = CONFIDENCE) -> ThresholdPolicy | None:
        """The policy with the confidence of the image threshold's bound; None where validation's masks decide."""
        return None if self.policy is None else ThresholdPolicy(self.policy, self.value, confidence)


def _refuse(fault: str | None) -> None:
    if fault:
        raise ValueError(fault)


class TrackSection(Section):
    """How MLflow records the run."""

    experiment: str = Field("adjobs", min_length=1, max_length=256, description="MLflow experiment")
    model: str | None = Field(
        None, min_length=1, max_length=256, description="registered model that gets a new version; null: not registered"
    )

    @field_validator("model")
    @classmethod
    def _model_fits_a_uri(cls, value: str | None) -> str | None:
        """MLflow refuses a slash, a colon or dots alone when it registers a model, and cannot find one with @ or ? by URI."""
        if value is not None and (not value.strip(" .") or value.startswith("..") or set(value) & set("/:@?")):
            raise ValueError("must not be blank, start with '..' or contain / : @ or ?")
        return value


class JobConfig(Section):
    """A job. Once resolved, ``params`` holds all parameters of the method."""

    method: str = Field(description="the method to train; see 'adjobs methods'")
    data: DataSection
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the method; see 'adjobs methods --params'")
    preset: str | None = Field(None, description="named set of params: paper, or official where the published code differs")
    train: TrainSection = TrainSection()
    threshold: ThresholdSection = ThresholdSection()
    pixel_threshold: PixelThresholdSection = PixelThresholdSection()
    track: TrackSection | None = Field(TrackSection(), description="where the run is recorded; none: in a folder, without MLflow")

    @field_validator("track", mode="before")
    @classmethod
    def _none_is_none(cls, value: object) -> object:
        return None if value == "none" else value

    def to_yaml(self) -> str:
        """The resolved job as a job file."""
        return dump_yaml(self.model_dump(mode="json"))

    @property
    def label_detail(self) -> LabelDetail:
        """Detail of the labels in the training split: the coarser of ``data.label_detail`` and what the method learns from."""
        supervision = self.method_config().supervision_used
        return coarser(self.data.label_detail, "image" if supervision in ("none", "image labels") else supervision)  # type: ignore[arg-type]

    @property
    def supervision(self) -> str:
        """The labels of anomalies that this job learns from; see :data:`adjobs.methods.contract.Supervision`."""
        supervision = self.method_config().supervision_used
        if supervision in ("none", "image labels"):
            return supervision
        return "image labels" if self.label_detail == "image" else self.label_detail

    def method_config(self) -> MethodConfig:
        """``params`` as the method's own configuration."""
        return methods.config_class(self.method)(**self.params)
