"""What the verbs of ``adjobs models`` read: a model, a version, a time, a policy."""

from __future__ import annotations

import logging
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

from adjobs.errors import JobError, RegistryError, StorageError, TrackingError, shown

if TYPE_CHECKING:
    from adjobs.evaluation.gate_policy import GatePolicy
    from adjobs.registry.journal import Journal, ModelState
    from adjobs.registry.models import ModelVersion, RegisteredModel

log = logging.getLogger(__name__)


def read_model(journal: Journal, name: str, *, needs_history: bool = False) -> ModelState:
    """A model with its history, interrupted changes completed and those outside adjobs recorded, so far as this user may.

    Args:
        journal: of the registry.
        name: of the model.
        needs_history: whether a history that cannot be read is an error; otherwise it is a warning, and left out.
    """
    from adjobs.registry.journal import ModelState

    try:
        return journal.reconcile(name)
    except (StorageError, TrackingError) as error:
        model = journal.store.model(name)
        log.warning("changes of aliases that are not recorded yet cannot be recorded now: %s", error)
    try:
        return journal.inspect(name)
    except StorageError:
        if needs_history:
            raise
        return ModelState(model, ())


def require_version(reference: str) -> tuple[str, int | str]:
    """Name of a model, and a version or an alias.

    Raises:
        RegistryError: the text names no version.
    """
    from adjobs.registry.models import parse_reference

    name, version = parse_reference(reference)
    if version is None:
        raise RegistryError(f"{shown(reference)} names no version; write {name}/VERSION, such as {name}/3, or {name}@ALIAS")
    return name, version


def resolve_version(journal: Journal, model: RegisteredModel, version: int | str) -> ModelVersion:
    """A version of a model by its number, or by an alias.

    Raises:
        RegistryError: there is no such version or alias.
    """
    if isinstance(version, str):
        if version not in model.aliases:
            known = ", ".join(model.aliases) or "none"
            raise RegistryError(f"model {shown(model.name)} has no alias {shown(version)}; it has: {known}")
        version = model.aliases[version]
    return journal.store.version(model, version)


def parse_moment(text: str) -> tuple[datetime, datetime]:
    """First and last moment of a day, or a time twice; without a zone, local.

    Raises:
        RegistryError: not a day or a time in ISO 8601.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text).astimezone()
        except (ValueError, OverflowError, OSError) as error:
            allowed = "a day, such as 2026-11-01, or a time, such as 2026-11-01T14:30"
            raise RegistryError(f"--at: got {shown(text)}; give {allowed}") from error
        return moment, moment
    start = datetime.combine(day, time()).astimezone()
    return start, datetime.combine(day, time.max).astimezone()


def read_policy(path: Path | None) -> GatePolicy:
    """The gate's policy in a YAML file; without a file that for stored scores.

    Raises:
        JobError: the file cannot be read, or is not a policy.
    """
    from adjobs.registry.comparison import STORED_SCORES_POLICY

    if path is None:
        return STORED_SCORES_POLICY
    from adjobs.config.resolve import read_yaml
    from adjobs.evaluation.gate_policy import GatePolicy

    document = read_yaml(path, "policy", "give a YAML file with margins and bounds of the gate")
    if not isinstance(document, dict):
        raise JobError(f"policy '{path}': got {type(document).__name__}; must be a mapping, such as recall_margin: 0.1")
    return GatePolicy.from_dict(document)
