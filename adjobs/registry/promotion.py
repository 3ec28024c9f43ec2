"""Promotion with the gate's advice: the champion is replaced when the gate says so, or when a person says why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from adjobs.errors import DataError, RegistryError, StorageError, TrackingError, shown
from adjobs.evaluation.gate_policy import GatePolicy
from adjobs.registry.changes import completed_promotion, promote
from adjobs.registry.comparison import STORED_SCORES_POLICY, VersionComparison, compare_versions
from adjobs.registry.journal import Journal, ModelState
from adjobs.registry.models import CHAMPION
from adjobs.registry.record import GateSummary, HistoryRecord
from adjobs.registry.verdicts import record_summary, record_verdict, summarise

NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class Promotion:
    """What a promotion does, or would do.

    Attributes:
        model: name of the model.
        version: that is promoted.
        alias: champion or challenger.
        before: version that the alias stood for; None: for none.
        verdict: of the gate; None where no champion is replaced.
        record: of the history; None for one that was only tried.
        comparison: that the verdict is of; None where there is none.
    """

    model: str
    version: int
    alias: str
    before: int | None
    verdict: GateSummary | None
    record: HistoryRecord | None = None
    comparison: VersionComparison | None = field(default=None, repr=False)

    @property
    def needs_reason(self) -> bool:
        """Whether a person must say why, because the gate does not."""
        return self.verdict is not None and self.verdict.decision != "promote"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "model": self.model,
            "version": self.version,
            "alias": self.alias,
            "before": self.before,
            "verdict": None if self.verdict is None else self.verdict._asdict(),
            "needs_reason": self.needs_reason,
            "record": None if self.record is None else self.record.to_dict(),
        }


def try_promotion(
    journal: Journal, name: str, version: int, alias: str = CHAMPION, policy: GatePolicy = STORED_SCORES_POLICY
) -> Promotion:
    """What a promotion would do; nothing is changed.

    Raises:
        RegistryError: an unknown model or version, or the alias stands for it already.
        TrackingError: MLflow does not answer.
    """
    return _plan(journal, ModelState(journal.store.model(name), ()), version, alias, policy)


def promote_with_verdict(
    journal: Journal,
    name: str,
    version: int,
    alias: str = CHAMPION,
    reason: str = "",
    policy: GatePolicy = STORED_SCORES_POLICY,
) -> Promotion:
    """Promote a version, with the gate's verdict on it beside the champion in the history.

    Args:
        journal: of the registry.
        name: of the model.
        version: of the model.
        alias: champion or challenger.
        reason: why; needed to replace a champion if the gate does not promote.
        policy: of the gate.

    Raises:
        RegistryError: it is refused, or the gate does not promote and no reason is given.
        TrackingError: MLflow does not answer.
        StorageError: the storage of the history does not.
    """
    state = journal.reconcile(name)
    if (interrupted := completed_promotion(journal, state, version, alias)) is not None:
        change = interrupted.change_of(alias)
        return Promotion(name, version, alias, change and change.before, interrupted.verdict, interrupted)
    plan = _plan(journal, state, version, alias, policy)
    if plan.verdict is not None and plan.needs_reason and not reason.strip():
        raise RegistryError(
            f"version {version} of model {shown(name)} is not promoted: {plan.verdict.decision}: {plan.verdict.sentence}; "
            "to promote it nevertheless, give --reason"
        )
    _record(journal, state, plan)
    record = promote(journal, name, version, alias=alias, expected=plan.before, reason=reason, verdict=plan.verdict)
    return replace(plan, record=record)


def _record(journal: Journal, state: ModelState, plan: Promotion) -> None:
    """Show the verdict in MLflow, too."""
    if plan.comparison is not None:
        record_verdict(journal.store.uri, plan.comparison.b, plan.comparison.a, plan.comparison.verdict)
    elif plan.verdict is not None and plan.before is not None:
        record_summary(journal.store, journal.store.version(state.model, plan.version), str(plan.before), plan.verdict)


def _plan(journal: Journal, state: ModelState, version: int, alias: str, policy: GatePolicy) -> Promotion:
    model = state.model
    promoted, before = journal.store.version(model, version), model.aliases.get(alias)
    verdict = comparison = None
    if before == version:
        raise RegistryError(f"version {version} of model {shown(model.name)} is the {alias} already; choose another version")
    if alias == CHAMPION and before is not None:
        try:
            champion = journal.store.version(model, before)
            comparison = compare_versions(journal.store.uri, champion, promoted, policy)
            verdict = summarise(comparison.verdict)
        except (RegistryError, DataError, TrackingError, StorageError) as error:
            verdict = GateSummary(NOT_COMPARED, str(error))
    return Promotion(model.name, version, alias, before, verdict, comparison=comparison)
