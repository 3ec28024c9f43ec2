"""The figure of the gate's verdict."""

from __future__ import annotations

from adjobs.evaluation.gate_policy import GatePolicy
from adjobs.evaluation.gate_power import state_power
from adjobs.evaluation.gate_verdict import GateCheck, GateVerdict
from adjobs.reporting.figures.gate import gate
from tests.helpers.figures import all_text, pixels


def make_verdict(*checks):
    policy = GatePolicy()
    return GateVerdict(decision="refuse", sentence="refuse", checks=checks, power=state_power(policy, 5, 5), policy=policy)


def test_gate_figure_has_a_panel_for_differences_shares_and_costs():
    figure = gate(
        make_verdict(
            GateCheck(name="recall", status="passed", sentence="", value=0.0, low=-0.05, high=0.05, bound=-0.1),
            GateCheck(name="auroc", status="undecided", sentence="", bound=-0.03),
            GateCheck(
                name="false_alarm_rate",
                status="failed",
                sentence="",
                value=0.3,
                low=0.2,
                high=0.4,
                bound=0.05,
                direction="at most",
            ),
            GateCheck(name="latency", status="passed", sentence="", value=10.0, bound=20.0, direction="at most", unit="ms"),
            GateCheck(name="memory", status="skipped", sentence=""),
        )
    )
    text = all_text(figure)
    assert len(figure.axes) == 3
    assert "Gate: refuse" in text
    assert [name in text for name in ("recall", "auroc", "no value", "false_alarm_rate", "latency", "memory")] == [True] * 5 + [
        False
    ]
    assert pixels(figure).std() > 0


def test_gate_figure_of_one_kind_of_check_has_one_panel():
    figure = gate(
        make_verdict(GateCheck(name="recall", status="failed", sentence="", value=-0.3, low=-0.4, high=-0.2, bound=-0.1))
    )
    assert len(figure.axes) == 1
