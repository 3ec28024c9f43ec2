"""The gate's verdicts on hand-made score tables, bad input, and its error rates."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from adjobs.errors import DataError
from adjobs.evaluation.behaviour import BEHAVIOURS, ChangedDecisions
from adjobs.evaluation.gate import PredictionCost, evaluate_gate
from adjobs.evaluation.gate_policy import GatePolicy
from adjobs.evaluation.gate_verdict import TABLE_HEADER, GateVerdict
from adjobs.evaluation.score_table import ScoreTable

STEADY = [ChangedDecisions(name, 0, 100) for name in BEHAVIOURS]
POLICY = GatePolicy()
THRESHOLD = 0.5


def table(normal, anomalous, prefix="test"):
    """A table of normal, then anomalous images with these scores."""
    scores = np.concatenate((normal, anomalous))
    ids = [f"{prefix}/{i:04}.png" for i in range(len(scores))]
    return ScoreTable(ids, np.repeat([0, 1], [len(normal), len(anomalous)]), scores, THRESHOLD)


def with_missed(missed, total):
    """Scores of ``total`` anomalies of which the first ``missed`` stay under the threshold."""
    return np.where(np.arange(total) < missed, 0.4, 0.9) + np.linspace(0, 0.05, total)


def split(missed=2, false_alarms=1, n_normal=200, n_anomalous=60):
    """A test split: normal images that score low but for some, and anomalies of which some are missed."""
    normal = np.where(np.arange(n_normal) < false_alarms, 0.6, 0.1) + np.linspace(0, 0.05, n_normal)
    return table(normal, with_missed(missed, n_anomalous))


def new(missed, total=18):
    return table([], with_missed(missed, total), "new")


def verdict(challenger=None, new_tables=None, policy=POLICY, **options):
    tables = (new(15), new(2)) if new_tables is None else new_tables
    options = {"behaviours": STEADY} | options
    return evaluate_gate(policy, (split(), split() if challenger is None else challenger), tables, **options)


def check_of(result, name):
    return next(check for check in result.checks if check.name == name)


def test_gate_better_on_the_new_and_equal_on_the_old_is_promoted():
    result = verdict()
    assert (result.decision, result.sentence) == ("promote", "promote: all 9 checks passed")
    gain = check_of(result, "new_recall")
    assert gain.value == pytest.approx(13 / 18)
    assert 0 < gain.low < gain.value < gain.high
    assert "13 gained and 0 lost of 18; better" in gain.sentence
    assert check_of(result, "latency").status == "skipped"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"challenger": split(missed=30)}, "recall"),
        ({"challenger": table(np.linspace(0, 1, 200), np.linspace(0, 1, 60))}, "auroc"),
        ({"challenger": table(np.full(200, 0.9), np.full(60, 0.9))}, "auroc"),
        ({"challenger": split(false_alarms=40)}, "false_alarm_rate"),
        ({"new_tables": (new(15, 40), new(15, 40))}, "new_recall"),
        ({"behaviours": [*STEADY[1:], ChangedDecisions("flip", 40, 100)]}, "behaviour/flip"),
        ({"policy": GatePolicy(max_ms_per_image=20), "cost": PredictionCost(ms_per_image=21)}, "latency"),
        ({"policy": GatePolicy(max_memory_mib=500), "cost": PredictionCost(memory_mib=501)}, "memory"),
    ],
)
def test_gate_a_broken_bound_is_refused_with_its_check(options, name):
    result = verdict(**options)
    assert result.decision == "refuse"
    assert check_of(result, name).status == "failed"
    assert check_of(result, name).sentence in result.sentence


@pytest.mark.parametrize(
    ("options", "name", "reason"),
    [
        ({"new_tables": (new(3, 4), new(0, 4))}, "new_recall", "label more of these anomalies"),
        ({"new_tables": (new(0, 0), new(0, 0))}, "new_recall", "no new anomalies; label some"),
        ({"behaviours": STEADY[1:]}, "behaviour/flip", "no images were evaluated"),
        ({"behaviours": [*STEADY[1:], ChangedDecisions("flip", 0, 5)]}, "behaviour/flip", "evaluate more images"),
        ({"policy": GatePolicy(max_ms_per_image=20)}, "latency", "it was not measured"),
        ({"policy": GatePolicy(max_false_alarm_rate=0.01)}, "false_alarm_rate", "neither at most 0.01 nor more is shown"),
        ({"policy": GatePolicy(recall_margin=0.02)}, "recall", "a loss of 0.02 is not excluded"),
    ],
)
def test_gate_data_that_cannot_decide_are_undecided_with_the_reason(options, name, reason):
    result = verdict(**options)
    assert result.decision == "undecided"
    assert check_of(result, name).status == "undecided"
    assert reason in check_of(result, name).sentence
    assert reason in result.sentence


@pytest.mark.parametrize(("n_normal", "n_anomalous", "reason"), [(0, 20, "no normal images"), (20, 0, "no anomalous images")])
def test_gate_one_class_missing_in_the_test_split_is_undecided(n_normal, n_anomalous, reason):
    tables = split(n_normal=n_normal, n_anomalous=n_anomalous)
    result = evaluate_gate(POLICY, (tables, tables), (new(15), new(2)), behaviours=STEADY)
    assert result.decision == "undecided"
    assert reason in check_of(result, "auroc").sentence


def test_gate_without_new_anomalies_decides_where_no_gain_is_needed():
    policy = GatePolicy(target_gain=None)
    result = evaluate_gate(policy, (split(), split()), behaviours=STEADY)
    assert result.decision == "promote"
    assert result.power.detectable_gain is None
    assert evaluate_gate(POLICY, (split(), split()), behaviours=STEADY).decision == "undecided"


def test_gate_perfect_models_are_undecided_with_few_anomalies():
    """Two models without an error differ by nothing in the data, which does not show that they differ by nothing."""

    def perfect(n, scale):
        return table(np.linspace(0, 0.1, 300), 0.9 + scale * np.linspace(0, 0.05, n) ** 2)

    statuses = [check_of(evaluate_gate(POLICY, (perfect(n, 1), perfect(n, -1))), "auroc").status for n in (60, 150)]
    assert statuses == ["undecided", "passed"]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            (table([0.1], [0.9], "test"), table([0.1], [0.9], "test")),
            "new anomalies: 2 images or parts are in the test split, too",
        ),
        (
            (table([0.1], [0.9], "new"), table([0.1], [0.9], "new")),
            "got 1 normal images, allowed are anomalous ones",
        ),
        ((new(1, 5), new(1, 6)), "new anomalies: the two models were scored on different images"),
        ((new(1, 5), table([], [np.nan] * 5, "new")), "new anomalies, challenger: scores: 5 of 5 values are NaN or infinite"),
    ],
)
def test_gate_tables_that_cannot_be_compared_are_refused_in_one_line(tables, message):
    with pytest.raises(DataError) as error:
        verdict(new_tables=tables)
    assert message in str(error.value)


def test_gate_states_its_power_in_words():
    power = verdict().power
    assert power.sentences == (
        "with 18 new anomalies this gate sees a gain of 38% of recall with a probability of 80%, if 5% are detected by the "
        "champion alone; a gain of 20% takes about 43",
        "with 60 anomalies in the test split, a challenger of equal recall passes the check of recall with a probability of 67%",
    )
    assert (
        "sees no gain, however large, with a probability of 80%" in verdict(new_tables=(new(4, 4), new(0, 4))).power.sentences[0]
    )


def test_verdict_survives_json_and_refuses_something_else():
    result = verdict(policy=GatePolicy(max_ms_per_image=20), cost=PredictionCost(12.5))
    assert GateVerdict.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    with pytest.raises(DataError, match=r"^not a verdict of the gate: verdict\.decision: got 'yes'; must be 'promote'"):
        GateVerdict.from_dict(result.to_dict() | {"decision": "yes"})


def test_verdict_table_has_a_row_for_each_check_that_was_not_skipped():
    result = verdict(policy=GatePolicy(max_ms_per_image=20), cost=PredictionCost(12.5))
    rows = {row[0]: row for row in result.table_rows()}
    assert {len(row) for row in rows.values()} == {len(TABLE_HEADER)}
    assert rows["latency"] == ["latency", "12.5 ms", "–", "≤ 20 ms", "passed"]
    assert rows["recall"][1::2] == ["+0.000", "≥ -0.100"]
    assert rows["recall"][4] == "passed"
    assert "memory" not in rows


@pytest.mark.slow
def test_gate_imports_neither_torch_nor_ray_nor_mlflow():
    program = "import sys, adjobs.evaluation.gate; print([name for name in ('torch', 'ray', 'mlflow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
