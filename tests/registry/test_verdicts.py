"""The gate's verdict in MLflow: artifacts of the run, tags and description of the version."""

from __future__ import annotations

import csv
import io
import json

import pytest

from adjobs.errors import TrackingError
from adjobs.registry import verdicts
from adjobs.registry.comparison import VersionComparison, compare_versions
from adjobs.registry.verdicts import record_verdict
from adjobs.tracking.layout import RunRef
from adjobs.tracking.reader import PNG_HEADER, MlflowRunReader
from tests.helpers.registry import add_evaluated_version, draw_scores, store

__all__ = ["store"]


@pytest.fixture
def comparison(store, tmp_path) -> VersionComparison:
    """A challenger, version 6, beside the champion, version 5."""
    a, b = (add_evaluated_version(store, "line-3", tmp_path / "models", draw_scores(quality)) for quality in (0.2, 1.0))
    model = store.model("line-3")
    return compare_versions(store.uri, store.version(model, a), store.version(model, b))


def version(store, comparison):
    return store.version(store.model("line-3"), comparison.b.version)


def record(store, comparison):
    record_verdict(store.uri, comparison.b, comparison.a, comparison.verdict)
    return version(store, comparison)


def test_record_verdict_stores_every_figure_in_the_run(store, comparison):
    record(store, comparison)
    reader = MlflowRunReader(RunRef(store.uri, comparison.b.run_id))
    assert reader.artifacts("gate") == ["gate/beside-5.csv", "gate/beside-5.json", "gate/beside-5.png"]
    assert reader.read_json("gate/beside-5.json") == json.loads(json.dumps(comparison.verdict.to_dict()))
    assert reader.read_bytes("gate/beside-5.png").startswith(PNG_HEADER)
    rows = list(csv.reader(io.StringIO(reader.read_text("gate/beside-5.csv"))))
    assert rows[0] == ["check", "value", "interval", "bound", "status", "in words"]
    assert [row[0] for row in rows[1:]] == [check.name for check in comparison.verdict.checks]
    assert [row[-1] for row in rows[1:]] == [check.sentence for check in comparison.verdict.checks]


def test_record_verdict_sets_tags_and_adds_a_line_to_the_description(store, comparison):
    store.change_description(comparison.b, lambda _: "Trained on the new lamp.")
    after = record(store, comparison)
    assert after.tags == {"adjobs.gate": "promote", "adjobs.gate_beside": "5"}
    start, line = after.description.split("\n\n")
    assert start == "Trained on the new lamp."
    assert line.startswith("**Gate, beside version 5:** promote: all 3 checks passed<br>![promote](")
    assert f"path=gate%2Fbeside-5.png&run_uuid={comparison.b.run_id}" in line


def test_record_verdict_repeated_replaces_its_line_and_keeps_all_others(store, comparison):
    first = record(store, comparison)
    store.change_description(comparison.b, lambda description: f"{description}\nSeen by Ann.")
    repeated = record(store, comparison)
    assert repeated.description == f"{first.description}\nSeen by Ann."


def test_record_verdict_beside_another_model_names_it(store, comparison, tmp_path):
    store._client.create_registered_model("line-4")
    number = add_evaluated_version(store, "line-4", tmp_path / "models", draw_scores(0.2))
    other = store.version(store.model("line-4"), number)
    record_verdict(store.uri, comparison.b, other, comparison.verdict)
    after = version(store, comparison)
    assert after.tags["adjobs.gate_beside"] == "line-4/1"
    assert "beside version line-4/1:" in after.description
    assert "gate/beside-line-4-1.png" in MlflowRunReader(RunRef(store.uri, comparison.b.run_id)).artifacts("gate")


def test_record_verdict_where_the_run_may_not_be_changed_is_a_warning(store, comparison, monkeypatch, caplog):
    def refuse(*_):
        raise TrackingError("'ann' may not do this")

    monkeypatch.setattr(verdicts, "_log_files", refuse)
    after = record(store, comparison)
    assert "is not stored in run" in caplog.text
    assert after.tags["adjobs.gate"] == "promote"
    assert after.description == "**Gate, beside version 5:** promote: all 3 checks passed"


def test_record_verdict_without_a_run_keeps_to_the_version(store, comparison):
    model = store.model("line-3")
    bare = store.version(model, 4)
    record_verdict(store.uri, bare, comparison.a, comparison.verdict, "new-anomalies")
    assert store.version(model, 4).tags == {"adjobs.gate": "promote", "adjobs.gate_beside": "5"}


def test_record_verdict_description_that_is_full_loses_the_oldest_verdicts_first():
    text = "Trained on the new lamp."
    for number in range(40):
        text = verdicts._replace_line(text, f"{verdicts._START}{number}:** ", f"{verdicts._START}{number}:** {'x' * 400}")
    assert len(text) <= verdicts.MAX_DESCRIPTION
    assert text.startswith("Trained on the new lamp.\n\n**Gate, beside version 2")
    assert text.count(verdicts._START) == 11
    full = "y" * verdicts.MAX_DESCRIPTION
    assert verdicts._replace_line(full, "**Gate, beside version 1:** ", "**Gate, beside version 1:** z") == full
