"""Options out of range are refused."""

from __future__ import annotations

import pytest

from adjobs.drift.options import DriftOptions
from adjobs.errors import JobError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, r"alpha: got 0.0, must be from 0.001 to 0.2"),
        ({"alpha": float("nan")}, "alpha: got nan"),
        ({"max_anomalous_share": 0.5}, "max_anomalous_share: got 0.5, must be at least 0 and below 0.5"),
        ({"effect": 0.0}, "effect: got 0.0"),
        ({"limit": 3}, "limit: got 3, must be at least 20"),
        ({"seed": -1}, "seed: got -1"),
        ({"reference": "train"}, "reference: unknown split 'train'; available: both, test, val"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(JobError, match=message):
        DriftOptions(**options)


def test_splits_of_both():
    assert DriftOptions(reference="both").splits == ("val", "test")
    assert DriftOptions().splits == ("val",)
