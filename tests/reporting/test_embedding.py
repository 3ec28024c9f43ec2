"""Figures as they are embedded in the page."""

from __future__ import annotations

import base64

from adjobs.reporting.embedding import CAPTIONS, embed_figures
from tests.helpers.reporting import png, report


def test_embed_figures_are_in_order_of_captions_with_size_and_bytes():
    embedded = embed_figures(report(figures={"test_roc": png(), "extra": png(), "val_histogram": png(), "training": png(7)}))
    assert [figure.name for figure in embedded] == ["val_histogram", "test_roc", "training", "extra"]
    assert [figure.caption for figure in embedded[:2]] == [CAPTIONS["histogram"], CAPTIONS["roc"]]
    assert embedded[3].caption == "extra"
    assert {(figure.width, figure.height) for figure in embedded} == {(29, 22)}  # 40 x 30 at 150 dots per inch
    assert base64.b64decode(embedded[2].uri.partition(",")[2]) == png(7)


def test_embed_figures_run_without_training_figure_draws_it_from_history():
    assert [figure.name for figure in embed_figures(report(figures={}))] == ["training"]
    assert embed_figures(report(figures={}, history={})) == []
