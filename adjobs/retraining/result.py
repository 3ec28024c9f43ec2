"""What a retraining gives back: frozen, made once, printed by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class RetrainState(StrEnum):
    """How a retraining ended, or why there was none."""

    DUE = "due"
    """A pass would start; of a preview only."""
    NOT_DUE = "not due"
    IN_FLIGHT = "in flight"
    """Another process works on it."""
    PROMOTED = "promoted"
    CHALLENGER = "challenger"
    """Not in force; a person may promote it: the gate could not decide, or the retraining says so."""
    REFUSED = "refused"
    """By the gate."""
    STALE = "stale"
    """The champion was changed while the pass ran; the next pass compares with the new one."""
    FAILED = "failed"
    """By an error that would come again."""
    ABANDONED = "abandoned"
    """By a user."""


@dataclass(frozen=True)
class TakenIn:
    """What a pass added to the data set.

    Attributes:
        added: new images.
        updated: images that got a label, or a finer one.
        duplicates: images that were there already.
        set_aside: names and reasons of those that were not taken in.
    """

    added: int = 0
    updated: int = 0
    duplicates: int = 0
    set_aside: tuple[tuple[str, str], ...] = ()

    @property
    def sentence(self) -> str:
        """In words."""
        aside = f", {len(self.set_aside)} set aside" if self.set_aside else ""
        return f"{self.added} images added, {self.updated} updated, {self.duplicates} known{aside}"


@dataclass(frozen=True)
class RetrainResult:
    """A pass, or why there was none.

    Attributes:
        model: registered model.
        state: how it ended.
        sentence: in words.
        number: of the pass; None without one.
        reasons: why it was due.
        taken_in: from the inbox; None without one.
        dataset_version: that was trained on.
        run_id: of the training.
        version: of the model.
        champion: version in force when the pass started.
        decision: of the gate; None where no champion was replaced.
        page: URI of the summary page; "" without one.
        notified: whether the webhook accepted the summary; None without one.
    """

    model: str
    state: RetrainState
    sentence: str
    number: int | None = None
    reasons: tuple[str, ...] = ()
    taken_in: TakenIn | None = None
    dataset_version: int | None = None
    run_id: str | None = None
    version: int | None = None
    champion: int | None = None
    decision: str | None = None
    page: str = ""
    notified: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def result_of(model: str, number: int, reasons: tuple[str, ...], end: Mapping[str, Any]) -> RetrainResult:
    """The result of a pass from its record."""
    return RetrainResult(
        model=model,
        state=RetrainState(end["state"]),
        sentence=end["sentence"],
        number=number,
        reasons=reasons,
        dataset_version=end.get("dataset_version"),
        run_id=end.get("run_id"),
        version=end.get("version"),
        champion=end.get("champion"),
        decision=end.get("decision"),
        page=end.get("page", ""),
    )
