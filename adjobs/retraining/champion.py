"""The version in force, and what it has seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from adjobs.config.job import JobConfig
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import RegistryError, shown
from adjobs.registry.journal import Journal
from adjobs.registry.models import CHAMPION, ModelVersion
from adjobs.registry.timeline import periods
from adjobs.tracking.layout import RunRef
from adjobs.tracking.runs import open_reader


@dataclass(frozen=True)
class Champion:
    """A version in force.

    Attributes:
        version: of the model.
        since: when it came into force; None: unknown.
        job: that trained it.
        split: of its data.
    """

    version: ModelVersion
    since: datetime | None
    job: JobConfig
    split: SplitAssignment

    @property
    def trained(self) -> frozenset[str]:
        """Ids of the images that it was trained or calibrated on."""
        return frozenset(self.split.train) | frozenset(self.split.val)

    @property
    def seen(self) -> frozenset[str]:
        """Those, and the ones that it was tested on."""
        return self.trained | frozenset(self.split.test)


def find_champion(journal: Journal, model: str, dataset: str) -> Champion | None:
    """The champion of a model with what it has seen; None if the model has none, or does not exist yet.

    Args:
        journal: of the registry.
        model: name of the registered model.
        dataset: that it must have been trained on.

    Raises:
        RegistryError: it was trained on another data set, or is not a training of adjobs.
    """
    if not any(known.name == model for known in journal.store.models()):
        return None
    state = journal.reconcile(model)
    if state.champion is None:
        return None
    return _read(journal, state.champion, model, dataset, [period.start for period in periods(state.records, CHAMPION)])


def read_version(journal: Journal, model: str, version: int, dataset: str) -> Champion:
    """The same of a version that was in force."""
    return _read(journal, version, model, dataset, [])


def _read(journal: Journal, number: int, model: str, dataset: str, starts: list[datetime]) -> Champion:
    version = journal.store.version(journal.store.model(model), number)
    subject = f"the champion of model {shown(model)}, version {number},"
    advice = f"promote a version that was trained on '{dataset}', or give the retraining another model"
    if not version.run_id:
        raise RegistryError(f"{subject} has no run, so that nobody knows which images it has seen; {advice}")
    stored = open_reader(RunRef(journal.store.uri, version.run_id)).stored_run()
    if stored.job.data.uri.rstrip("/") != dataset.rstrip("/"):
        raise RegistryError(
            f"{subject} was trained on '{stored.job.data.uri}', not on '{dataset}': they have no test images in common; {advice}"
        )
    return Champion(version, max(starts, default=None), stored.job, stored.split)
