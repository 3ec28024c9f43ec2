"""The record of passes: steps are done once, and damaged records are said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adjobs.errors import DamagedError
from adjobs.retraining.passes import Passes, PassStart, digest_inputs
from adjobs.storage import open_store

START = PassStart(
    number=1,
    started_at="2026-11-28T02:00:00+00:00",
    by="ann",
    reasons=("23 new labels",),
    config={"model": "line-3", "when": {"new_labels": 20}},
    dataset_version=4,
    fingerprint="f" * 64,
    champion=3,
    new_labels=23,
)


@pytest.fixture
def store(tmp_path: Path):
    return open_store(str(tmp_path))


def test_passes_read_what_was_started(store):
    passes = Passes(store)
    assert passes.last() is None
    passes.start(START)
    last = passes.last()
    assert last is not None
    assert last.start == START


def test_step_is_done_once(store):
    current = Passes(store).start(START)
    calls: list[int] = []

    def work() -> dict[str, int]:
        calls.append(1)
        return {"version": 7}

    assert [current.step("register", work), current.step("register", work)] == [{"version": 7}] * 2
    assert len(calls) == 1


def test_step_gives_the_outcome_of_another_process_that_was_first(store):
    current = Passes(store).start(START)

    def work() -> dict[str, int]:
        Passes(store).get(1).step("register", lambda: {"version": 7})
        return {"version": 8}

    assert current.step("register", work) == {"version": 7}


def test_start_of_a_number_that_is_taken_gives_the_pass_of_the_other(store):
    passes = Passes(store)
    passes.start(START)
    assert passes.start(replace(START, by="bob")).start.by == "ann"


def test_a_damaged_record_is_an_error(store):
    Passes(store).start(START)
    store.write("passes/00000001/start.json", b"{")
    with pytest.raises(DamagedError, match=r"start\.json: is damaged .*; restore it from a backup"):
        Passes(store).last()


def test_inputs_depend_on_data_champion_and_settings_but_not_on_times_and_webhook():
    other = {**START.config, "when": {"new_labels": 5}, "webhook": {"url": "http://a"}, "inbox": "b"}
    assert digest_inputs(other, START.fingerprint, START.champion) == START.inputs
    assert digest_inputs({**other, "model": "line-4"}, START.fingerprint, START.champion) != START.inputs
    assert digest_inputs(other, "e" * 64, START.champion) != START.inputs
    assert digest_inputs(other, START.fingerprint, None) != START.inputs
