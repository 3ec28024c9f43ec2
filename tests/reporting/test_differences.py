"""What the difference between runs means."""

from __future__ import annotations

import numpy as np
import pytest

from adjobs.reporting.differences import Differences, differences
from adjobs.types import ImageScores
from tests.helpers.registry import draw_scores
from tests.helpers.reporting import render_page, report, text_from


def run(name: str, scores: ImageScores | None):
    return report(run_id=name * 32, name=f"cdo-{name}", test_scores=scores)


def noisy(quality: float, seed: int, noise: float = 0.02) -> ImageScores:
    """Scores that separate 100 normal and 40 anomalous images the better, the higher the quality, with noise of their own."""
    scores = draw_scores(quality)
    return scores._replace(score=scores.score + np.random.default_rng(seed).normal(size=140) * noise)


def test_differences_clear_one_and_one_that_may_be_chance():
    compared = differences([run("a", noisy(0.1, 1)), run("b", noisy(0.4, 2)), run("c", noisy(0.4, 3))])
    assert isinstance(compared, Differences)
    assert compared.counts == "100 normal and 40 anomalous images"
    assert {compared.best.name, compared.others[0].run.name} == {"cdo-b", "cdo-c"}
    assert "the difference may be chance" in compared.others[0].sentence
    assert compared.others[1].run.name == "cdo-a"
    assert compared.others[1].difference.low > 0
    assert compared.others[1].sentence.endswith("is better than cdo-a: chance alone does not explain the difference")
    assert "all 3 pairs hold together" in compared.note
    two = differences([run("a", noisy(0.1, 1)), run(compared.best.run_id[0], compared.best.test_scores)])
    assert two.others[0].difference.low > compared.others[1].difference.low  # a single pair has a narrower interval


def test_differences_same_scores_rank_alike():
    compared = differences([run("a", noisy(0.2, 1)), run("b", noisy(0.2, 1))])
    assert compared.others[0].sentence == "cdo-a and cdo-b rank these images alike"


def test_differences_with_other_images_or_without_scores_say_why_not():
    scores = noisy(0.2, 1)
    assert "stored the scores" in differences([run("a", scores), run("b", None)])
    assert "different images or labels" in differences([run("a", scores), run("b", scores._replace(labels=1 - scores.labels))])
    normal = scores._replace(labels=np.zeros(140, dtype=np.int64))
    assert "all normal" in differences([run("a", normal), run("b", normal)])


def test_page_of_several_runs_says_what_the_difference_means():
    text = text_from(render_page(run("a", noisy(0.1, 1)), run("b", noisy(0.4, 2))), "Does the difference mean anything?")
    assert "cdo-b is better than cdo-a: chance alone does not explain the difference" in text
    assert "another training of the same job would differ" in text.lower()


@pytest.mark.parametrize("scores", [None, noisy(0.2, 1)])
def test_page_of_one_run_has_no_comparison(scores):
    assert "Does the difference" not in render_page(run("a", scores)).text
