"""``adjobs models``: registered models, which version is in force, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adjobs.cli.models import text
from adjobs.cli.models.reading import parse_moment, read_model, read_policy, require_version, resolve_version
from adjobs.cli.output import EXIT_PROBLEMS, VerbResult, verb
from adjobs.errors import RegistryError, shown

if TYPE_CHECKING:
    from adjobs.registry.journal import Journal

ALIASES = ("champion", "challenger")

_POLICY = click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="File with margins and bounds of the gate, see docs/guides/gate.md.  [default: what stored scores can show]",
)


@click.group()
def command() -> None:
    """List, compare, promote and roll back registered models.

    MODEL is the name of a registered model, VERSION one of its versions: NAME/3, or NAME@champion. The champion is the version
    in force, a challenger one that may replace it. Every change of either is recorded, also one that was made in the MLflow UI,
    which the next command for this model notices.

    \b
    adjobs models list
    adjobs models compare line-3@champion line-3/12
    adjobs models promote line-3/12 --reason "finds scratches"
    adjobs models rollback line-3 --reason "false alarms since the new lamp"
    adjobs models history line-3 --at 2026-11-01
    """  # noqa: D301 (click looks for the control character, not for a backslash)


def _journal() -> Journal:
    import os

    from adjobs.config.environment import load_settings

    settings = load_settings()

    from adjobs.registry.journal import Journal
    from adjobs.registry.models import ModelStore
    from adjobs.tracking.source import user_name

    return Journal(ModelStore(settings.tracking_uri), settings.artifacts, user_name(os.environ))


@command.command("list")
@click.argument("model", required=False)
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The newest so many versions.")
@verb
def list_models(model: str | None, limit: int) -> VerbResult:
    """List the registered models, or the versions of one.

    The list of all models shows their aliases as they stand in MLflow; only a command that names a model notices changes.
    """
    journal = _journal()
    if model is None:
        models = journal.store.models()
        return {"models": [item.to_dict() for item in models]}, text.model_list(models)
    state = read_model(journal, model)
    versions = journal.store.versions(state.model, limit + 1)
    has_more, versions = len(versions) > limit, versions[:limit]
    result = {"model": state.model.to_dict(), "versions": [item.to_dict() for item in versions], "has_more": has_more}
    return result, text.version_list(state.model, versions, has_more=has_more)


@command.command()
@click.argument("model", metavar="MODEL|VERSION")
@verb
def show(model: str) -> VerbResult:
    """Show a model with its last changes, or a version with its metrics."""
    from adjobs.registry.models import parse_reference

    journal = _journal()
    name, version = parse_reference(model)
    state = read_model(journal, name)
    if version is None:
        recent = state.records[-5:]
        return {**state.model.to_dict(), "changes": [record.to_dict() for record in recent]}, text.model_details(state)
    item = resolve_version(journal, state.model, version)
    from adjobs.registry.comparison import version_metrics

    metrics = version_metrics(journal.store.uri, item)
    changes = [record for record in state.records if any(item.version == change.after for change in record.changes)]
    result = {**item.to_dict(), "metrics": metrics, "changes": [record.to_dict() for record in changes]}
    return result, text.version_details(item, metrics, changes)


@command.command(short_help="Compare two versions on their test images.")
@click.argument("a", metavar="VERSION")
@click.argument("b", metavar="VERSION")
@_POLICY
@click.option("--record", is_flag=True, help="Show the verdict in MLflow, too: in the run, tags and description of the second.")
@verb
def compare(a: str, b: str, policy: Path | None, record: bool) -> VerbResult:
    """Compare two versions on the test images that both were evaluated on, and show what the gate says of the second.

    Nothing is promoted and nothing predicted: the scores are those that the trainings stored. The first stands in the place of
    the champion. Without --record nothing is changed.
    """
    gate_policy = read_policy(policy)
    journal = _journal()
    from adjobs.registry.comparison import compare_versions

    versions = [resolve_version(journal, journal.store.model(name), version) for name, version in map(require_version, (a, b))]
    if versions[0].uri == versions[1].uri:
        raise RegistryError(f"{shown(a)} and {shown(b)} are the same version; give two")
    comparison = compare_versions(journal.store.uri, versions[0], versions[1], gate_policy)
    if record:
        from adjobs.registry.verdicts import record_verdict

        record_verdict(journal.store.uri, comparison.b, comparison.a, comparison.verdict)
    return comparison, text.comparison(comparison)


@command.command(short_help="Make a version the champion or a challenger.")
@click.argument("version")
@click.option("--alias", type=click.Choice(ALIASES), default="champion", show_default=True, help="What the version becomes.")
@click.option("--reason", default="", help="Why; kept in the history. Needed to replace a champion unless the gate promotes.")
@click.option("--dry-run", is_flag=True, help="Only show what the gate says; the exit status is 1 if a reason would be needed.")
@_POLICY
@verb
def promote(version: str, alias: str, reason: str, dry_run: bool, policy: Path | None) -> VerbResult:
    """Make a version the champion, which is the one in force, or a challenger.

    Where it replaces a champion, the gate compares the two on the scores that their trainings stored, and its verdict is
    recorded. Interrupted at any moment, it is completed by the next command for this model.
    """
    gate_policy = read_policy(policy)
    name, wanted = require_version(version)
    journal = _journal()
    from adjobs.registry.promotion import promote_with_verdict, try_promotion

    number = resolve_version(journal, journal.store.model(name), wanted).version
    if dry_run:
        plan = try_promotion(journal, name, number, alias, gate_policy)
        return plan, text.promotion(plan), EXIT_PROBLEMS if plan.needs_reason else 0
    promotion = promote_with_verdict(journal, name, number, alias, reason, gate_policy)
    return promotion, text.promotion(promotion)


@command.command(short_help="Return to the champion before.")
@click.argument("model")
@click.option("--reason", default="", help="Why; kept in the history.")
@verb
def rollback(model: str, reason: str) -> VerbResult:
    """Make the champion before the present one the champion again. Repeated, it goes back further."""
    journal = _journal()
    from adjobs.registry import changes

    record = changes.rollback(journal, model, reason)
    return {"model": model, "record": record.to_dict()}, f"{model}: {record.changes[0]}"


@command.command(short_help="Show all changes, or what was in force at a time.")
@click.argument("model")
@click.option("--at", metavar="TIME", help="Which version was in force then: a day, or a time such as 2026-11-01T14:30.")
@click.option(
    "--alias", type=click.Choice(ALIASES), default="champion", show_default=True, help="Alias whose version --at shows."
)
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="The latest so many changes.")
@verb
def history(model: str, at: str | None, alias: str, limit: int) -> VerbResult:
    """Show who moved the aliases of a model, when and why; or which version was in force at a time.

    Times without a zone are local. Of a change outside adjobs MLflow remembers neither time nor user: the history shows when it
    was noticed, and the time before which it cannot have been made.
    """
    moment = None if at is None else parse_moment(at)
    journal = _journal()
    state = read_model(journal, model, needs_history=True)
    if moment is not None:
        from adjobs.registry.timeline import in_force

        periods = in_force(state.records, *moment, alias)
        return {"model": model, "alias": alias, "periods": [period.to_dict() for period in periods]}, text.periods(periods, alias)
    records = state.records[-limit:]
    result = {"model": model, "records": [record.to_dict() for record in records], "total": len(state.records)}
    return result, text.history(records, len(state.records))
