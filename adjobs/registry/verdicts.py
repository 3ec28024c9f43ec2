"""The gate's verdict on a version, where people choose in the MLflow UI: in its run, its tags and its description."""

from __future__ import annotations

import csv
import io
import logging
import re

from adjobs.errors import StorageError, TrackingError, shorten
from adjobs.evaluation.gate_verdict import TABLE_HEADER, GateVerdict
from adjobs.registry.models import ModelStore, ModelVersion
from adjobs.registry.record import GateSummary
from adjobs.tracking.layout import DESCRIPTION_DPI, RunRef, artifact_link
from adjobs.tracking.writer import MlflowRunWriter

log = logging.getLogger(__name__)

FOLDER = "gate"  # of the artifacts
MAX_DESCRIPTION = 5000  # characters that MLflow's database holds
_START = "**Gate, beside version "
_VERDICT = re.compile(rf"^{re.escape(_START)}.*$", re.MULTILINE)
VERDICT_TAG, BESIDE_TAG = "gate", "gate_beside"  # of a version


def record_verdict(uri: str, version: ModelVersion, beside: ModelVersion, verdict: GateVerdict, name: str = "") -> None:
    """Record a verdict of the gate for a version.

    Its run gets ``gate/beside-<n>.json``, ``.csv`` and ``.png``, with every figure of the verdict; the version gets the tags
    ``adjobs.gate`` and ``adjobs.gate_beside``, and a line in its description, below what is there already. Repeated, the same is
    replaced. If the run cannot be written to, which not everyone may who may change models, that is a warning.

    Args:
        uri: tracking URI.
        version: the challenger.
        beside: the champion.
        verdict: of the gate.
        name: of the artifacts, without folder and suffix; "": ``beside-<n>``.

    Raises:
        TrackingError: MLflow does not answer, or the version may not be changed.
    """
    other = str(beside.version) if beside.model == version.model else f"{beside.model}/{beside.version}"
    name = name or f"beside-{other.replace('/', '-')}"
    has_figure = False
    if version.run_id:
        try:
            _log_files(RunRef(uri, version.run_id), f"{FOLDER}/{name}", verdict)
            has_figure = True
        except (TrackingError, StorageError) as error:
            log.warning("the gate's verdict on %s is not stored in run %s: %s", version.uri, version.run_id, error)
    figure = f"{FOLDER}/{name}.png" if has_figure else ""
    record_summary(ModelStore(uri), version, other, summarise(verdict), figure)


def summarise(verdict: GateVerdict) -> GateSummary:
    """A verdict in one line."""
    return GateSummary(verdict.decision, verdict.sentence.removeprefix(f"{verdict.decision}: "))


def record_summary(store: ModelStore, version: ModelVersion, beside: str, summary: GateSummary, figure: str = "") -> None:
    """Record what the gate said in the tags and the description of a version.

    Args:
        store: of the models.
        version: the challenger.
        beside: number of the champion, with its name if it is of another model.
        summary: of the verdict.
        figure: path of the artifact that shows the verdict, in the version's run; "": none.
    """
    store.set_version_tag(version, VERDICT_TAG, summary.decision)
    store.set_version_tag(version, BESIDE_TAG, beside)
    start = f"{_START}{beside}:** "
    line = f"{start}{summary.decision}: {shorten(summary.sentence, 1000)}"
    if figure:
        line += f"<br>![{summary.decision}]({artifact_link(version.run_id, figure)})"
    store.change_description(version, lambda description: _replace_line(description, start, line))


def _log_files(run: RunRef, path: str, verdict: GateVerdict) -> None:
    from adjobs.reporting import figures  # matplotlib, which other verbs of models need not import

    writer = MlflowRunWriter(run)
    writer.log_text(_to_csv(verdict), f"{path}.csv")
    writer.log_figure(figures.gate(verdict), f"{path}.png", DESCRIPTION_DPI)
    writer.log_json(verdict.to_dict(), f"{path}.json")


def _to_csv(verdict: GateVerdict) -> str:
    """The checks as MLflow's UI shows them as a table, with their sentences."""
    text = io.StringIO()
    rows = [[*check.row(), check.sentence] for check in verdict.checks]
    csv.writer(text, lineterminator="\n").writerows([[*TABLE_HEADER, "in words"], *rows])
    return text.getvalue()


def _replace_line(description: str, start: str, line: str) -> str:
    """Markdown in which a paragraph of one line is replaced, or added to the end; the oldest verdicts give way to it."""
    pattern = re.compile(rf"^{re.escape(start)}.*$", re.MULTILINE)
    if pattern.search(description):
        after = pattern.sub(lambda _: line, description, count=1)
    else:
        after = f"{description.rstrip()}\n\n{line}".lstrip()
    while len(after) > MAX_DESCRIPTION and (oldest := _VERDICT.search(after)):
        after = after[: oldest.start()] + after[oldest.end() :].lstrip("\n")
    return after if len(after) <= MAX_DESCRIPTION else description
