"""Text on figures."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adjobs.reporting.figures.style import fit_text, metric_name


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60), st.floats(30, 200))
def test_fit_text_is_one_printable_line_and_keeps_short_text(text, width):
    fitted = fit_text(text, width)
    assert fitted.isprintable()
    assert len(fitted) <= max(3, len(text))
    if text.isascii() and text.isprintable() and len(text) < 3:
        assert fitted == text


def test_fit_text_keeps_both_ends():
    fitted = fit_text("camera-1/2026-11-22/part-00017.png", 100)
    assert fitted.startswith("camera")
    assert fitted.endswith("17.png")
    assert "…" in fitted


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("image_auroc", "image AUROC"),
        ("au_pro@0.05", "AU-PRO up to 0.05"),
        ("au_pro_small", "AU-PRO small"),
        ("au_spro_logical", "AU-sPRO logical"),
        ("image_macro_f1_at_0.5", "image macro F1 at 0.5"),
        ("image_ap_distance", "image AP distance"),
        ("something_new", "something new"),
    ],
)
def test_metric_name_is_readable(key, name):
    assert metric_name(key) == name
