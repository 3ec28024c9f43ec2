"""Figures of a search."""

from __future__ import annotations

from adjobs.reporting import figures
from adjobs.reporting.figures import TrialSummary
from tests.helpers.figures import all_text, pixels

TRIALS = [
    *(TrialSummary(i, {"params.lr": 10.0**-i, "params.backbone": f"net{i % 2}"}, (0.5 + 0.1 * i, 9.0 - i)) for i in range(4)),
    TrialSummary(4, {"params.lr": 0.1, "params.backbone": "net0"}, (), pruned_at=0.4),
    TrialSummary(5, {"params.lr": 0.1, "params.backbone": "net1"}, (), is_failed=True),
]
METRICS, HIGHER = ["image_auroc", "ms_per_image"], [True, False]


def draw(trials, importance=None, metrics=METRICS):
    return figures.of_search(trials, metrics, HIGHER[: len(metrics)], importance or {}, [0, 3])


def test_of_search_complete_search_has_every_figure():
    drawn = draw(TRIALS, {"params.lr": 0.7, "params.backbone": 0.3})
    assert list(drawn) == ["history", "parallel", "importance", "pareto"]
    for name, figure in drawn.items():
        assert pixels(figure).std() > 5, name
    assert "lr" in all_text(drawn["importance"])
    assert {"complete", "pruned, last value", "best so far", "failed"} <= set(all_text(drawn["history"]).split("\n"))


def test_of_search_without_complete_trial_has_no_figure():
    assert draw(TRIALS[4:]) == {}


def test_of_search_one_objective_has_no_pareto_front():
    assert list(draw(TRIALS, metrics=["image_auroc"])) == ["history", "parallel"]


def test_of_search_history_follows_direction_of_objective():
    for higher, best in ((True, [0.5, 0.6, 0.7, 0.8, 0.8]), (False, [0.5] * 5)):
        drawn = figures.of_search(TRIALS, ["image_auroc"], [higher], {}, [])
        (line,) = [line for line in drawn["history"].axes[0].lines if line.get_label() == "best so far"]
        assert [round(value, 6) for value in line.get_ydata()] == best
