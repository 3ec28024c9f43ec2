"""What a challenger must show to replace the champion: the policy of the gate, as people write it in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from adjobs.config.job import Section
from adjobs.config.resolve import explain
from adjobs.errors import JobError, choices, join_problems
from adjobs.evaluation.behaviour import BEHAVIOURS


class GatePolicy(Section):
    """Margins, bounds and errors of the gate; null leaves a check out."""

    alpha: float = Field(
        0.05,
        gt=0,
        le=0.2,
        description="error of each check: a challenger that is worse by a margin, or no better on the new anomalies, is "
        "promoted at most this often",
    )
    auroc_margin: float | None = Field(
        0.03, gt=0, lt=0.5, description="loss of image AUROC on the test split that is accepted; null: not checked"
    )
    recall_margin: float | None = Field(
        0.1,
        gt=0,
        lt=1,
        description="loss of recall on the test split, at the models' thresholds, that is accepted; null: not checked",
    )
    target_gain: float | None = Field(
        0.2,
        gt=0,
        lt=1,
        description="gain of recall on the new anomalies that is worth a change; the challenger must be better, and is refused "
        "once a gain of this size is excluded; null: no gain is needed",
    )
    max_false_alarm_rate: float | None = Field(
        0.05,
        gt=0,
        lt=1,
        description="bound on the share of normal test images that raise an alarm; the upper limit of the challenger's rate must "
        "keep to it; null: not checked",
    )
    max_ms_per_image: float | None = Field(
        None, gt=0, description="milliseconds that the challenger may take for an image; null: not checked"
    )
    max_memory_mib: float | None = Field(
        None, gt=0, description="peak memory of prediction in MiB that the challenger may take; null: not checked"
    )
    behaviours: tuple[str, ...] = Field(
        tuple(BEHAVIOURS),
        strict=False,
        description=f"changes of an image that must change few decisions: {', '.join(BEHAVIOURS)}",
    )
    max_changed_decisions: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="bound on the share of decisions that each behaviour changes; its upper limit must keep to it",
    )
    power: float = Field(0.8, ge=0.5, lt=1, description="probability for which the smallest gain that the gate sees is stated")

    @field_validator("behaviours")
    @classmethod
    def _behaviours_are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in BEHAVIOURS:
                raise ValueError(f"unknown behaviour {name!r}; {choices(name, BEHAVIOURS)}")
        if len(set(value)) < len(value):
            raise ValueError("must name each behaviour once")
        return value

    @model_validator(mode="after")
    def _compares_something(self) -> Self:
        if self.auroc_margin is None and self.recall_margin is None and self.target_gain is None:
            raise ValueError(
                "auroc_margin, recall_margin, target_gain: got null for all, which compares nothing; set at least one"
            )
        return self

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GatePolicy:
        """Read a policy; raises `JobError` with all its problems."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise JobError(join_problems(explain(error, cls, "gate"))) from error
