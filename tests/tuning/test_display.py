"""Lines and estimates that are shown while a search runs."""

from __future__ import annotations

import pytest

from adjobs.tuning.display import Display, time_left, trial_line
from tests.helpers.search import FakeSearch


@pytest.fixture
def search() -> FakeSearch:
    """Trial 0 completed, trial 1 failed."""
    search = FakeSearch()
    search.run(image_auroc=0.9)
    search.start()
    search.manager.on_error(1, "loss not finite")
    return search


def test_trial_line_has_state_value_and_parameters(search):
    trials, manager = search.manager.trials, search.manager
    assert trial_line(trials[0], manager) == "trial 0 complete after 10 s: image_auroc 0.9000 (best so far); gamma 2"
    assert trial_line(trials[1], manager).startswith("trial 1 failed after 0 s: loss not finite; gamma ")


def test_time_left_is_estimated_from_ended_trials():
    assert time_left(FakeSearch().manager) == "time left unknown"
    search = FakeSearch(trials=10, time_budget_s=50)
    search.run(seconds=10)
    assert time_left(search.manager) == "about 40 s left"


def test_display_logs_a_line_for_each_ended_trial_once(search, caplog):
    caplog.set_level("INFO", "adjobs")
    with Display() as display:
        display.on_start("mine", search.manager)
        search.run(image_auroc=0.5)
        display.on_change()
        display.on_change()
    (line,) = caplog.messages
    assert line.startswith("[3/4, about ")
    assert "trial 2 complete after 10 s: image_auroc 0.5000; gamma " in line


def test_display_table_shows_running_and_best_trials(search):
    display = Display()
    display._manager, display._name = search.manager, "mine"
    search.start()
    search.manager.on_report(2, 3, 0.4)
    table, counts = display._table().renderables
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns["trial"] == ["2", "0"]
    assert columns["state"] == ["running", "best"]
    assert columns["interval"] == ["3", "0"]
    assert columns["image_auroc"] == ["0.4000", "0.9000"]
    assert counts == "1 failed"
