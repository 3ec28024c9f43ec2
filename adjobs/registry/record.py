"""One change of a model's aliases, as the history keeps it."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple


class Action(StrEnum):
    """What changed the aliases."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    OUTSIDE = "outside"
    """Something else than adjobs: a click in the MLflow UI, another client, the deletion of a version."""


class AliasChange(NamedTuple):
    """An alias that stands for another version than before; None: for none."""

    alias: str
    before: int | None
    after: int | None

    def __str__(self) -> str:
        """Such as ``champion 3 -> 5``."""
        return f"{self.alias} {_or_none(self.before)} -> {_or_none(self.after)}"


class GateSummary(NamedTuple):
    """What the gate said of the new champion beside the one before.

    Attributes:
        decision: promote, refuse or undecided; "not compared" if the two could not be compared.
        sentence: the decision with its reason.
    """

    decision: str
    sentence: str


@dataclass(frozen=True)
class HistoryRecord:
    """A change of aliases. Records are numbered from 1, and never change.

    Attributes:
        number: in the history of its model; it alone gives the order, since clocks differ.
        at: when it was made or, for a change outside adjobs, noticed; in UTC.
        by: who made or noticed it.
        action: what it was.
        changes: at least one, all made together.
        reason: why, in the words of who made it, or "".
        verdict: of the gate; None where it was not consulted.
        not_before: of a change outside adjobs: it was made between then and ``at``; None where nothing is known.
        request_id: of the caller, who makes one change with it however often it is requested; "" without.
        token: random; no two records have the same.
    """

    number: int
    at: datetime
    by: str
    action: Action
    changes: tuple[AliasChange, ...]
    reason: str = ""
    verdict: GateSummary | None = None
    not_before: datetime | None = None
    request_id: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def change_of(self, alias: str) -> AliasChange | None:
        """The change of one alias; None if it did not change."""
        return next((change for change in self.changes if change.alias == alias), None)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            **asdict(self),
            "at": self.at.isoformat(),
            "changes": [change._asdict() for change in self.changes],
            "verdict": None if self.verdict is None else self.verdict._asdict(),
            "not_before": None if self.not_before is None else self.not_before.isoformat(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HistoryRecord:
        """The inverse of :meth:`to_dict`; raises KeyError, TypeError or ValueError if it is something else."""
        verdict, not_before = values["verdict"], values["not_before"]
        return cls(
            number=int(values["number"]),
            at=_aware(values["at"]),
            by=str(values["by"]),
            action=Action(values["action"]),
            changes=tuple(
                AliasChange(str(change["alias"]), _version(change["before"]), _version(change["after"]))
                for change in values["changes"]
            ),
            reason=str(values["reason"]),
            verdict=None if verdict is None else GateSummary(str(verdict["decision"]), str(verdict["sentence"])),
            not_before=None if not_before is None else _aware(not_before),
            request_id=str(values["request_id"]),
            token=str(values["token"]),
        )

    def to_bytes(self) -> bytes:
        """The object that is stored."""
        return json.dumps(self.to_dict()).encode()

    def digest(self) -> str:
        """SHA-256 of the object that is stored, hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def _version(value: Any) -> int | None:
    return None if value is None else int(value)


def _or_none(version: int | None) -> str:
    return "none" if version is None else str(version)


def _aware(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
