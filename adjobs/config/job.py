"""The job file: one frozen, validated description of a run, the same for train, submit and resume."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from adjobs import methods
from adjobs.data.labels.masks import LabelDetail, coarser
from adjobs.methods.contract import MethodConfig, Policy
from adjobs.metrics.policies import DEFAULT_MAX_FPR, DEFAULT_PIXEL_MAX_FPR, wrong_value


class Section(BaseModel):
    """A part of the job file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSection(Section):
    """Which pictures, and how they are split."""

    uri: str = Field(description="folder, s3://bucket/prefix, or 'elpv'")
    format: str = Field("auto", description="layout; auto recognises it")
    protocol: str = Field("holdout", description="how train, validation and test are made")
    max_train_anomalies: int | None = Field(
        None, ge=0, description="most labelled anomalies in the training part; null: all of them"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the split")
    image_size: int = Field(256, ge=32, le=4096, multiple_of=32, description="side in pixels; pictures are stretched to a square")
    split: str | None = Field(None, description="file of a stored split, used in place of protocol, max_train_anomalies and seed")
    label_detail: LabelDetail = Field(
        "full", description="what the training sees of its anomalies: all that is known, or coarser labels"
    )
    block_size: int = Field(8, ge=2, le=512, description="side of a block in pixels, for labels: blocks")
    skip_invalid: bool = Field(
        False, description="leave out the pictures that 'adjobs data check' complains of, instead of stopping"
    )


class TrainSection(Section):
    """What the training runs on."""

    workers: int = Field(1, ge=1, le=1024, description="Ray Train workers; the batch is shared among them")
    gpus_per_worker: Annotated[float, Field(ge=0, le=64)] | Literal["auto"] = Field(
        "auto", description="auto: 1 where the cluster has one for each worker, else 0"
    )
    cpus_per_worker: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto", description="auto: an equal share of the node, at most 8"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on GPUs that have it, else fp32")
    max_retries: int = Field(3, ge=0, le=100, description="restarts from the last checkpoint after a worker died")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of initialisation, order and simulated anomalies")
    validate_every: int = Field(1, ge=1, description="epochs between two looks at the validation part")


class ThresholdSection(Section):
    """How the decision threshold is chosen on the validation part."""

    policy: Policy | None = Field(
        None, description="fixed, max_f1, max_fpr, miss_cost or defect_ratio; null: the method's own, with its value"
    )
    value: float | None = Field(
        None,
        description="fixed: the threshold; max_fpr: largest false-alarm rate; miss_cost: cost of a miss over that of a false "
        "alarm; defect_ratio: share of images that is to raise an alarm, null: that of the anomalies in validation",
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="confidence of the stated bound on the false-alarm rate")
    strict: bool = Field(False, description="max_fpr: the bound, not only the rate on validation, must keep to the value")

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        """A wrong value is refused before the training, not after it."""
        if self.policy is not None:
            value = DEFAULT_MAX_FPR if self.policy == "max_fpr" and self.value is None else self.value
            _refuse(wrong_value(self.policy, value, strict=self.strict))
        return self


class PixelThresholdSection(Section):
    """How the threshold for the pixels of anomaly maps is chosen on the validation part."""

    policy: Policy | None = Field(
        None,
        description=f"as for threshold; null: max_f1 where validation has masks, else max_fpr {DEFAULT_PIXEL_MAX_FPR}",
    )
    value: float | None = Field(None, description="as for threshold, counted in pixels; max_fpr: in those of good images")

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        """A wrong value is refused before the training, not after it."""
        if self.policy is None:
            _refuse(None if self.value is None else f"got value {self.value} without a policy; give a policy, or no value")
        elif self.policy != "max_fpr" or self.value is not None:
            _refuse(wrong_value(self.policy, self.value))
        return self


def _refuse(fault: str | None) -> None:
    if fault:
        raise ValueError(fault)


class TrackSection(Section):
    """Where the run is recorded."""

    experiment: str = Field("adjobs", min_length=1, description="MLflow experiment")
    model: str | None = Field(None, min_length=1, description="registered model that gets a new version; null: none")


class JobConfig(Section):
    """A whole job. ``params`` holds the method's parameters with every default filled in."""

    method: str
    data: DataSection
    params: dict[str, Any] = Field(default_factory=dict)
    preset: str | None = Field(None, description="named set of params: paper, or official where the published code differs")
    train: TrainSection = TrainSection()
    threshold: ThresholdSection = ThresholdSection()
    pixel_threshold: PixelThresholdSection = PixelThresholdSection()
    track: TrackSection = TrackSection()

    def to_yaml(self) -> str:
        """The resolved job as a job file."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @property
    def label_detail(self) -> LabelDetail:
        """How much of its labels the training part shows: no more than ``data.label_detail``, and than the method learns from."""
        wanted = self.method_config().supervision_used
        return coarser(self.data.label_detail, "image" if wanted in ("none", "image labels") else wanted)  # type: ignore[arg-type]

    @property
    def supervision(self) -> str:
        """The labels of anomalies that this job wants to learn from; see :data:`adjobs.methods.contract.Supervision`."""
        wanted = self.method_config().supervision_used
        if wanted in ("none", "image labels"):
            return wanted
        return "image labels" if self.label_detail == "image" else self.label_detail

    def method_config(self) -> MethodConfig:
        """``params`` as the method's own configuration."""
        return methods.config_class(self.method)(**self.params)
