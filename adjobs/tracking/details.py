"""One run with what was set, what came out, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.config.resolve import resolve
from adjobs.documents import load_yaml
from adjobs.errors import AdjobsError, TrackingError
from adjobs.metrics.intervals import Estimate
from adjobs.tracking.layout import JOB_FILE, THRESHOLDS_FILE
from adjobs.tracking.listing import ListedRun
from adjobs.tracking.params import changed_params
from adjobs.tracking.reader import RunReader


@dataclass(frozen=True)
class RunDetails:
    """A run.

    Attributes:
        run: which one, and what is known without its artifacts.
        params: keys of the job that are not the default, with their values; None where its job cannot be read.
        estimates: metrics by names such as ``test/image_auroc``; empty if the run did not get so far.
        thresholds: content of ``thresholds.json``; empty likewise.
        url: the run's page in the MLflow UI; None without a server.
        problems: why something cannot be shown.
    """

    run: ListedRun
    params: Mapping[str, Any] | None
    estimates: Mapping[str, Estimate]
    thresholds: Mapping[str, Any]
    url: str | None
    problems: tuple[str, ...] = ()

    @property
    def model(self) -> str | None:
        """What loads its detector; None if it has none."""
        return self.run.info.tags.get("model")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        info = self.run.info
        metrics = {name: estimate.value for name, estimate in self.estimates.items()} or info.metrics
        return {
            **self.run.to_dict(),
            "error": info.tags.get("error") or None,
            "dataset": info.dataset,
            "params": self.params,
            "metrics": dict(metrics),
            "thresholds": {level: self.thresholds.get(level) for level in ("image", "pixel")} if self.thresholds else {},
            "model": self.model,
            "url": self.url,
            "problems": list(self.problems),
        }


def read_details(reader: RunReader) -> RunDetails:
    """Read a run, whatever state it is in; what is damaged is a problem that is named, and the rest is shown.

    Raises:
        TrackingError: MLflow does not answer.
    """
    artifacts, problems = set(reader.artifacts()), []
    params: Mapping[str, Any] | None = None
    estimates: Mapping[str, Estimate] = {}
    thresholds: Mapping[str, Any] = {}
    if JOB_FILE in artifacts:
        try:
            job = resolve(load_yaml(reader.read_text(JOB_FILE)), source=JOB_FILE)
            params = changed_params(job, chosen=_chosen_params(job, reader.info.tags))
        except AdjobsError as error:  # of a method that is not installed, or another version
            problems.append(str(error))
    try:
        estimates = reader.estimates()
        thresholds = reader.read_json(THRESHOLDS_FILE) if THRESHOLDS_FILE in artifacts else {}
    except TrackingError as error:
        problems.append(str(error))
    return RunDetails(ListedRun(reader.ref, reader.info), params, estimates, thresholds, reader.url(), tuple(problems))


def _chosen_params(job: JobConfig, tags: Mapping[str, str]) -> list[str]:
    """Parameters that the job left to the data, as its tag ``places`` says."""
    place_param = methods.spec(job.method).place_param
    return [] if place_param is None or "places" not in tags else [f"params.{place_param.param}"]
