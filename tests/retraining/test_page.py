"""The summary page of a pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from adjobs.evaluation.gate import evaluate_gate
from adjobs.evaluation.gate_policy import GatePolicy
from adjobs.evaluation.score_table import ScoreTable
from adjobs.retraining.evidence import ImageDecision
from adjobs.retraining.page import MAX_ROWS, render_page
from tests.retraining.test_passes import START as PASS

START = replace(PASS, config={**PASS.config, "dataset": "s3://line/data"})
FACTS = {"state": "promoted", "sentence": "version 4 is the champion", "run_id": "9a", "version": 4, "champion": 3}


def table(quality: float, name: str, count: int, label: int) -> ScoreTable:
    return ScoreTable(
        [f"{name}/{i}" for i in range(count)], np.full(count, label), np.full(count, quality) + np.arange(count) / 1e3, 0.5
    )


def gate_outcome(n_new: int = 10):
    labels = np.repeat([0, 1], [40, 20])
    ids = [f"old/{i}" for i in range(60)]
    scores = labels * 0.8 + np.random.default_rng(0).normal(0, 0.05, 60)
    old = ScoreTable(ids, labels, scores, 0.5)
    verdict = evaluate_gate(GatePolicy(behaviours=()), (old, old), (table(0.1, "<new>", n_new, 1), table(0.9, "<new>", n_new, 1)))
    decisions = [ImageDecision(f"<new>/{i}", 1, "dent", True, False, True) for i in range(n_new)]
    decisions += [ImageDecision("old/1", 0, "", False, True, False), ImageDecision("old/2", 1, "scratch", False, True, True)]
    return {"decision": str(verdict.decision), "verdict": verdict.to_dict(), "decisions": [vars(item) for item in decisions]}


def test_render_page_shows_facts_checks_and_counts_of_the_new_type():
    page = render_page(START, FACTS, gate_outcome())
    for text in (
        "line-3: promoted",
        "version 4 is the champion",
        "started 2026-11-28 02:00 UTC by ann",
        "23 new labels",
        "<td>dent</td><td>10</td><td>0</td><td>10</td>",
        "new_recall",
        "data:image/png;base64,",
        "old/1",
    ):
        assert text in page, text
    assert "old/2" not in page  # both models decide alike
    assert "&lt;new&gt;/0" in page
    assert "<new>" not in page


def test_render_page_of_a_first_version_has_no_gate():
    page = render_page(replace(START, champion=None), {**FACTS, "champion": None}, {"decision": None})
    assert "The gate" not in page
    assert "<td>none</td>" in page


def test_render_page_lists_so_many_images_and_counts_all():
    page = render_page(START, FACTS, gate_outcome(MAX_ROWS + 5))
    assert f"{MAX_ROWS} of {MAX_ROWS + 5} images are shown" in page
