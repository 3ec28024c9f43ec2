"""The policy of the gate, as people write it."""

from __future__ import annotations

import pytest

from adjobs.errors import JobError
from adjobs.evaluation.gate_policy import GatePolicy


def test_policy_takes_what_a_file_gives():
    policy = GatePolicy.from_dict({"recall_margin": 0.05, "target_gain": None, "behaviours": ["flip"]})
    assert (policy.recall_margin, policy.target_gain, policy.behaviours) == (0.05, None, ("flip",))
    assert GatePolicy.from_dict(policy.model_dump(mode="json")) == policy


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha": 0.5}, "gate.alpha: got 0.5; must be less than or equal to 0.2"),
        ({"recall_margin": float("nan")}, "gate.recall_margin: got nan"),
        (
            {"behaviours": ["flop"]},
            "unknown behaviour 'flop'; available: brighter, darker, flip, jpeg, shift; did you",
        ),
        ({"behaviours": ["flip", "flip"]}, "must name each behaviour once"),
        ({"margin": 0.1}, "gate.margin: unknown key"),
        ({"auroc_margin": None, "recall_margin": None, "target_gain": None}, "got null for all, which compares nothing"),
    ],
)
def test_policy_mistakes_are_one_line(values, message):
    with pytest.raises(JobError) as error:
        GatePolicy.from_dict(values)
    assert message in str(error.value)


def test_policy_schema_describes_every_key():
    properties = GatePolicy.model_json_schema()["properties"]
    assert all(entry["description"] for entry in properties.values())
    assert properties["alpha"]["default"] == 0.05
