"""What ``adjobs train`` prints of its measures."""

from __future__ import annotations

from adjobs.cli.train import _measures


def test_what_is_undefined_and_measured_on_validation_alone_has_its_reason():
    name = "val/au_pro_small"
    summary = {"metrics": {name: None}, "intervals": {name: [None, None]}, "reasons": {name: "no regions of this size"}}
    assert "undefined: au_pro_small (no regions of this size)" in _measures(summary)
