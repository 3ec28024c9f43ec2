"""``adjobs models``: what each verb prints, and refuses in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from adjobs.cli.main import main
from adjobs.cli.models.reading import parse_moment
from adjobs.cli.models.text import _p_value
from adjobs.errors import StorageError, TrackingError
from adjobs.registry.models import ModelStore
from adjobs.storage import LocalStore
from tests.helpers.registry import add_evaluated_version, add_model, click, delete_version, draw_scores


@pytest.fixture
def store(tmp_path: Path, empty_mlflow: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """Model "line-3" with two versions without runs, in the MLflow that the command line uses."""
    uri = empty_mlflow(tmp_path)
    for name, value in {
        "MLFLOW_TRACKING_URI": uri,
        "ADJOBS_HOME": str(tmp_path / "home"),
        "ADJOBS_ARTIFACTS": str(tmp_path / "a"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    models = ModelStore(uri)
    add_model(models, "line-3", 2)
    return models


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["models", *words])


def run_json(*words: str) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(*words: str) -> str:
    result = run(*words)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.output
    return result.stderr


def test_promote_rollback_and_history_agree(store):
    assert run("promote", "line-3/1").stdout == "line-3: champion is version 1, before none\n"
    assert "needs_reason" in run_json("promote", "line-3/2", "--reason", "finds scratches")
    assert run("rollback", "line-3", "--reason", "false alarms").stdout == "line-3: champion 2 -> 1\n"
    changes = run_json("history", "line-3")["records"]
    assert [(change["action"], change["by"], change["reason"]) for change in changes] == [
        ("promote", "ann", ""),
        ("promote", "ann", "finds scratches"),
        ("rollback", "ann", "false alarms"),
    ]
    assert changes[1]["changes"] == [{"alias": "champion", "before": 1, "after": 2}]
    assert changes[1]["verdict"]["decision"] == "not compared"
    lines = run("history", "line-3", "--limit", "2").stdout.splitlines()
    assert lines[1].split()[0] == "3"
    assert lines[1].endswith("ann  rollback  champion 2 -> 1  -             false alarms")
    assert lines[-1] == "1 earlier changes are left out; see --limit"


def test_list_and_show_name_the_version_in_force(store):
    click(store, "line-3", "champion", 1)
    click(store, "line-3", "Champion", 2)
    assert run("list").stdout.splitlines()[1].split()[:4] == ["line-3", "1", "-", "2"]
    versions = run_json("list", "line-3")
    assert [(item["version"], item["aliases"]) for item in versions["versions"]] == [(2, ["Champion"]), (1, ["champion"])]
    assert "\nolder versions are left out" in run("list", "line-3", "--limit", "1").stdout
    assert not run_json("list", "line-3", "--limit", "2")["has_more"]
    assert "aliases     Champion 2, champion 1" in run("show", "line-3").stdout
    assert run_json("show", "line-3@champion")["uri"] == "models:/line-3/1"
    assert "outside adjobs  champion none -> 1" in run("show", "line-3/1").stdout


def test_list_without_models_says_how_to_get_one(store):
    store._client.delete_registered_model("line-3")
    assert run("list").stdout == "no registered models; set track.model in a job file, and train\n"


def test_compare_shows_differences_and_the_verdict_and_promotes_nothing(store, tmp_path):
    a = add_evaluated_version(store, "line-3", tmp_path / "models", draw_scores(0.2), threshold=0.3)
    b = add_evaluated_version(store, "line-3", tmp_path / "models", draw_scores(1.0), threshold=0.5)
    result = run_json("compare", f"line-3/{a}", f"line-3/{b}")
    assert result["compared"] == {"unit": "images", "normal": 100, "anomalous": 40}
    metrics = {metric["name"]: metric for metric in result["metrics"]}
    assert metrics["image_auroc"]["b"] == 1.0 > metrics["image_auroc"]["a"]
    assert metrics["image_auroc"]["difference"]["low"] > 0
    assert 0 < metrics["image_recall"]["a"] < 0.5, "by the threshold of this version"
    assert (metrics["image_recall"]["b"], metrics["false_alarm_rate"]["b"], metrics["ms_per_image"]["b"]) == (1.0, 0.0, 12.5)
    assert result["verdict"]["decision"] == "promote"
    assert [check["status"] for check in result["verdict"]["checks"]] == [
        "passed",
        "passed",
        "skipped",
        "passed",
        "skipped",
        "skipped",
    ]
    text = run("compare", f"line-3/{a}", f"line-3/{b}").stdout
    assert text.startswith("images      100 normal, 40 anomalous, the same for both\n")
    assert "the gate    promote: all 3 checks passed" in text
    assert store.model("line-3").aliases == {}
    assert run_json("show", f"line-3/{b}")["tags"] == {}
    run_json("compare", f"line-3/{a}", f"line-3/{b}", "--record")
    assert run_json("show", f"line-3/{b}")["tags"] == {"adjobs.gate": "promote", "adjobs.gate_beside": str(a)}


def test_promote_a_better_version_records_the_verdict(store, tmp_path):
    a, b = (add_evaluated_version(store, "line-3", tmp_path / "models", draw_scores(quality)) for quality in (0.2, 1.0))
    run_json("promote", f"line-3/{a}")
    plan = run("promote", f"line-3/{b}", "--dry-run")
    assert (plan.exit_code, plan.stdout.splitlines()[0]) == (0, f"line-3: champion would be version {b}, before version {a}")
    assert store.model("line-3").aliases == {"champion": a}
    promotion = run_json("promote", f"line-3/{b}")
    assert promotion["record"]["verdict"] == {"decision": "promote", "sentence": "all 3 checks passed"}
    assert run_json("history", "line-3")["records"][1]["verdict"]["decision"] == "promote"
    assert run_json("show", f"line-3/{b}")["tags"] == {"adjobs.gate": "promote", "adjobs.gate_beside": str(a)}


def test_promote_a_worse_version_takes_a_reason(store, tmp_path):
    a, b = (add_evaluated_version(store, "line-3", tmp_path / "models", draw_scores(quality)) for quality in (1.0, 0.2))
    run_json("promote", f"line-3/{a}")
    assert f"version {b} of model 'line-3' is not promoted: refuse: " in refused("promote", f"line-3/{b}")
    assert run("promote", f"line-3/{b}", "--dry-run").exit_code == 1
    assert store.model("line-3").aliases == {"champion": a}
    assert run_json("promote", f"line-3/{b}", "--reason", "only this one knows the new part")["record"]["number"] == 2


def test_promote_to_challenger_takes_no_verdict(store):
    run_json("promote", "line-3/1")
    assert run_json("promote", "line-3/2", "--alias", "challenger")["verdict"] is None
    assert store.model("line-3").aliases == {"champion": 1, "challenger": 2}


def test_compare_of_a_version_whose_files_are_gone_is_one_short_line(store, tmp_path):
    a, b = (add_evaluated_version(store, "line-3", tmp_path / "models", draw_scores(1.0)) for _ in range(2))
    for manifest in (tmp_path / "models").rglob("detector.json"):
        manifest.unlink()
    error = refused("compare", f"line-3/{a}", f"line-3/{b}")
    assert f"model 'models:/line-3/{a}': its detector cannot be read (" in error
    assert "choose one of 'adjobs train' whose files exist" in error
    assert len(error) < 350


@pytest.mark.parametrize(("value", "shown"), [(None, "-"), (0.0004, "< 0.001"), (0.0312, "0.031")])
def test_p_value_is_never_shown_as_zero(value, shown):
    assert _p_value(value) == shown


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            {"fingerprint": "b" * 64},
            "they were evaluated on different data sets (fingerprints aaaaaaaaaaaa and bbbbbbbbbbbb); train",
        ),
        ({"scores": draw_scores(1.0, shift=1)}, "the two models were scored on different images: 1 only by the champion, 1 only"),
        ({"scores": draw_scores(1.0, normal=99, anomalous=41)}, "the two tables differ in labels of 1 images"),
    ],
)
def test_compare_of_different_data_is_one_line(store, tmp_path, second, message):
    a = add_evaluated_version(store, "line-3", tmp_path / "models", draw_scores(1.0))
    scores = second.pop("scores", draw_scores(1.0))
    b = add_evaluated_version(store, "line-3", tmp_path / "models", scores, **second)
    assert message in refused("compare", f"line-3/{a}", f"line-3/{b}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "line-4"], "unknown model 'line-4'; available: line-3; did you mean 'line-3'?"),
        (["history", "line-4"], "unknown model 'line-4'"),
        (["show", "line-3/7"], "version 7 of model 'line-3' does not exist; available: 2, 1"),
        (["show", "line-3@best"], "model 'line-3' has no alias 'best'; it has: none"),
        (["show", "line-3/x"], "'line-3/x' names no model; write NAME/VERSION"),
        (["show", "a/b/3"], "'a/b/3' names no model"),
        (["show", "line-3/0"], "'line-3/0' names no model"),
        (["promote", "line-3"], "'line-3' names no version; write line-3/VERSION, such as line-3/3, or line-3@ALIAS"),
        (["promote", "line-3/7"], "version 7 of model 'line-3' does not exist"),
        (["promote", "line-3/1", "--policy", "no.yaml"], "policy 'no.yaml': cannot be read"),
        (["rollback", "line-3"], "model 'line-3': there is no champion before none; promote a version instead"),
        (["compare", "line-3/1", "line-3/2"], "models:/line-3/1 has no run, so that no scores of it are stored"),
        (["compare", "line-3/1", "line-3/1"], "are the same version; give two"),
        (["history", "line-3", "--at", "yesterday"], "--at: got 'yesterday'; give a day, such as 2026-11-01, or a time"),
        (["promote", "line-3/1", "--alias", "best"], "Invalid value for '--alias'"),
    ],
)
def test_models_invalid_input_is_one_line(store, words, message):
    assert message in refused(*words)
    assert store.model("line-3").aliases == {}


def test_promote_policy_file_decides(store, tmp_path):
    a, b = (add_evaluated_version(store, "line-3", tmp_path / "models", draw_scores(quality)) for quality in (0.2, 1.0))
    policy = tmp_path / "policy.yaml"
    policy.write_text("max_ms_per_image: 10\ntarget_gain: null\nbehaviours: []\n")
    run_json("promote", f"line-3/{a}")
    assert "latency of a prediction: 12.5 ms, limit 10 ms" in refused("promote", f"line-3/{b}", "--policy", str(policy))
    policy.write_text("alpa: 1\n")
    assert "gate.alpa: unknown key" in refused("promote", f"line-3/{b}", "--policy", str(policy))
    policy.write_text("[]")
    assert "got list; must be a mapping" in refused("promote", f"line-3/{b}", "--policy", str(policy))


def test_history_at_a_day_names_the_version_in_force(store):
    assert run("history", "line-3", "--at", "2020-01-01").stdout == "no champion is recorded at that time\n"
    run_json("promote", "line-3/1")
    click(store, "line-3", "champion", 2)
    periods = run_json("history", "line-3", "--at", "2100-01-01")["periods"]
    assert [(period["version"], period["end"], period["record"]) for period in periods] == [(2, None, 2)]
    assert " between " in run("history", "line-3", "--at", "2100-01-01T10:00+02:00").stdout.replace("2  ", "2   ")


def test_parse_moment_of_a_day_is_the_whole_day():
    start, end = parse_moment("2026-11-01")
    assert (start.hour, start.minute, end.hour, end.minute) == (0, 0, 23, 59)
    moment, same = parse_moment("2026-11-01T14:30+01:00")
    assert moment == same
    assert moment.utcoffset() is not None


def test_show_a_deleted_version_and_its_end_in_the_history(store):
    run_json("promote", "line-3/1")
    delete_version(store, "line-3", 1)
    assert "version 1 of model 'line-3' is deleted; available: 2" in refused("show", "line-3/1")
    assert "outside adjobs  champion 1 -> none  -     version 1 was deleted" in run("history", "line-3").stdout


def test_reading_verbs_of_a_user_who_may_not_write_warn_and_go_on(store, monkeypatch):
    run_json("promote", "line-3/1")
    click(store, "line-3", "champion", 2)

    def refuse(*_: object) -> None:
        raise TrackingError("'bob' may not do this")

    monkeypatch.setattr(ModelStore, "set_tag", refuse)
    result = run("history", "line-3")
    assert result.exit_code == 0
    assert "cannot be recorded now: 'bob' may not do this" in result.stderr
    assert "champion none -> 1" in result.stdout


def test_storage_down_history_is_an_error_and_list_a_warning(store, monkeypatch):
    def refuse(*_: object) -> None:
        raise StorageError("nothing listens at http://s3")

    monkeypatch.setattr(LocalStore, "list", refuse)
    assert "nothing listens at http://s3" in run("list", "line-3").stderr
    assert run("list", "line-3").exit_code == 0
    assert run("history", "line-3").exit_code == 2
    assert run("promote", "line-3/1").exit_code == 2
    assert store.model("line-3").aliases == {}
