"""SLSG's parameters: combinations, and the stages that follow from them."""

from __future__ import annotations

import pytest

from adjobs.config.resolve import resolve
from adjobs.errors import JobError
from adjobs.methods.slsg.config import Config
from tests.helpers.tiny import tiny_method


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"large_mask_min": 100, "large_mask_max": 50}, "large_mask_min: got 100, must not exceed large_mask_max 50"),
        ({"pretrain": "none", "pretrain_from": "x"}, "pretrain_from: only allowed with pretrain gpt, got pretrain none"),
        ({"pretrain_from": "x"}, "pretrain_from: only allowed with pretrain gpt, got pretrain backbone; set it to gpt, or leave"),
        ({"backbone": "hrnet_w18"}, "backbone: got hrnet_w18, which has no map of stride 2; give a ResNet"),
        ({"mask_ratio": 1}, "mask_ratio"),
    ],
)
def test_config_inconsistent_params_are_refused(params, message):
    with pytest.raises(JobError, match=message):
        resolve({"method": "slsg", "data": {"uri": "x"}, "params": params})


def test_build_imagenet_weights_require_their_width():
    with pytest.raises(JobError, match=r"params.width: got 16, pretrain imagenet requires 64"):
        tiny_method("slsg", pretrain="imagenet")


def test_stages_include_inpainting_only_if_the_encoder_is_not_given():
    def stages(**params: object) -> list[str]:
        return [stage.name for stage in tiny_method("slsg", **params).stages()]

    assert stages() == ["inpaint", "segment"]
    assert stages(pretrain="backbone") == stages(pretrain="none") == stages(pretrain_from="0" * 32) == ["segment"]
    assert [stage.predicts for stage in tiny_method("slsg").stages()] == [False, True]


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_presets_inpaint_as_the_paper_does(preset):
    assert resolve({"method": "slsg", "preset": preset, "data": {"uri": "x"}}).params["pretrain"] == "gpt"


def test_score_auto_is_combined_with_a_backbone_alone():
    assert Config().is_combined
    for pretrain in ("gpt", "imagenet", "none"):
        assert not Config(pretrain=pretrain).is_combined
        assert Config(pretrain=pretrain, score="combined").is_combined
    assert not Config(score="network").is_combined
