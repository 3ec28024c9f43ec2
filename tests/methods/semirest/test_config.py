"""SemiREST's parameters: combinations, stages, and the labels that training may see."""

from __future__ import annotations

import pytest

from adjobs.config.resolve import resolve
from adjobs.errors import JobError
from adjobs.methods.semirest.config import PREDICT_ONLY, REFINE_ONLY, Config
from tests.helpers.tiny import tiny_method


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"labelled_per_batch": 2}, "labelled_per_batch: only allowed with supervision masks or blocks, got none; leave it out"),
        ({"window_stride": 17}, "window_stride: got 17, must not exceed window 16"),
        ({"heads": 3}, "heads: got 3, must divide embed_dim 128"),
        ({"window": 13}, "window: got 13, which limits attention to 1 × 1 tokens, .* choose a multiple of 8"),
        ({"nearest_probability": 0.9}, "nearest_probability: got 0.9, must not exceed two_nearest_probability 0.8"),
        ({"max_defect_normal": 0.5}, "max_defect_normal: got 0.5, must be below min_defect_anomalous 0.5"),
    ],
)
def test_config_inconsistent_params_are_refused(params, message):
    with pytest.raises(JobError, match=message):
        resolve({"method": "semirest", "data": {"uri": "x"}, "params": params})


@pytest.mark.slow
def test_stages_follow_the_supervision():
    def stages(**params: object) -> list[tuple]:
        return [(stage.name, *stage.mix) for stage in tiny_method("semirest", **params).stages()]

    memory = ("memory", 0, 0, 0, 0)
    assert stages() == [memory, ("learn", 0, 4, 2, 0)]
    assert stages(supervision="masks") == stages(supervision="blocks") == [memory, ("learn", 0, 2, 2, 2)]
    assert stages(supervision="boxes") == [memory, ("learn", 0, 4, 2, 0), ("refine", 0, 3, 3, 2)]
    assert stages(supervision="boxes", unsupervised_from="x") == [("refine", 0, 3, 3, 2)]
    assert stages(supervision="masks", unsupervised_from="x") == [("learn", 0, 2, 2, 2)]
    assert stages(unsupervised_from="x") == [("learn", 0, 4, 2, 0)]


def test_learn_stage_depends_on_everything_but_later_params():
    _, learn, refine = tiny_method("semirest", supervision="boxes").stages()
    later = {*REFINE_ONLY, *PREDICT_ONLY}
    assert later <= set(Config.model_fields)
    assert set(learn.depends_on) & set(Config.model_fields) == set(Config.model_fields) - later
    assert refine.depends_on is None


@pytest.mark.parametrize(
    ("supervision", "label_detail", "expected_detail", "expected_supervision"),
    [
        ("none", "full", "image", "none"),
        ("masks", "full", "masks", "masks"),
        ("blocks", "full", "blocks", "blocks"),
        ("boxes", "masks", "boxes", "boxes"),
        ("masks", "blocks", "blocks", "blocks"),
        ("boxes", "image", "image", "image labels"),
    ],
)
def test_training_sees_labels_no_finer_than_the_supervision(supervision, label_detail, expected_detail, expected_supervision):
    data = {"uri": "x", "label_detail": label_detail}
    job = resolve({"method": "semirest", "data": data, "params": {"supervision": supervision}})
    assert (job.label_detail, job.supervision) == (expected_detail, expected_supervision)
