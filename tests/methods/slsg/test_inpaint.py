"""Stage 1: masks, losses and training of GPT-Net."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from adjobs.methods.slsg.config import Config
from adjobs.methods.slsg.inpaint import draw_inpainting_masks
from tests.helpers.randomness import generator
from tests.helpers.tiny import random_batch, tiny_method
from tests.methods.slsg.training import take_steps


@pytest.mark.parametrize(("unit", "size", "cells"), [("cells", 8, 8), ("pixels", 8, 32), ("cells", 4, 4)])
def test_draw_inpainting_masks_grid_masks_its_fraction_of_whole_cells(unit, size, cells):
    config = Config(grid_size=size, grid_unit=unit, mask_ratio=0.8, large_masks=0)
    masks = draw_inpainting_masks(config, torch.zeros(3, 3, 64, 64), generator())
    by_cell = F.avg_pool2d(masks.float(), 64 // cells).flatten(1)
    assert set(by_cell.unique().tolist()) == {0.0, 1.0}
    assert by_cell.sum(1).tolist() == [round(0.8 * cells**2)] * 3
    assert not torch.equal(by_cell[0], by_cell[1])


def test_draw_inpainting_masks_large_masks_have_their_side_lengths():
    config = Config(mask_ratio=0, large_masks=1, large_mask_min=64, large_mask_max=128)
    masks = draw_inpainting_masks(config, torch.zeros(200, 3, 64, 64), generator())
    heights = masks.any(3).sum((1, 2))
    assert (int(heights.min()), int(heights.max())) == (16, 32)  # 64 and 128 of 256 pixels


def test_inpainter_gradients_of_generator_and_discriminator_are_separate():
    method = tiny_method("slsg")
    net, batch = method.inpainter.train(), random_batch()

    def modules_with_gradient(**weights: float) -> set[str]:
        net.config = net.config.model_copy(update={"alpha_adv": 0.0, "alpha_rec": 0.0, "alpha_bottleneck": 0.0, **weights})
        net.zero_grad()
        net(batch._replace(generator=generator())).total.backward()
        return {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}

    assert modules_with_gradient() == {"discriminator"}
    discriminator_gradients = {name: p.grad.clone() for name, p in net.discriminator.named_parameters()}
    assert modules_with_gradient(alpha_adv=1.0) == {"encoder", "decoder", "discriminator"}
    for name, p in net.discriminator.named_parameters():  # the adversarial loss adds nothing to it
        torch.testing.assert_close(p.grad, discriminator_gradients[name])
    assert modules_with_gradient(alpha_bottleneck=1.0) == {"encoder", "coarse", "discriminator"}


def test_inpainter_losses_are_those_of_a_least_squares_gan():
    """Eq. (8) and (9) for a discriminator whose output is always ¼."""
    method = tiny_method("slsg")
    net = method.inpainter.train()
    last = net.discriminator[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 0.25)
    terms = net(random_batch()).terms
    assert float(terms["adversarial"]) == pytest.approx(0.75**2 / 2)
    assert float(terms["discriminator"]) == pytest.approx(0.25**2 / 2 + 0.75**2 / 2)
    assert float(terms["discriminator_real"]) == float(terms["discriminator_fake"]) == pytest.approx(0.25)


@pytest.mark.slow
def test_inpainter_learns_to_reconstruct_different_images():
    method = tiny_method("slsg", pretrain_lr=1e-2)
    brightness = torch.linspace(0, 1, 4).view(4, 1, 1, 1)
    ramp = torch.linspace(0, 1, 64).view(1, 1, 64, 1)
    images = (ramp * brightness + 0.2 * brightness).clamp(0, 1).expand(4, 3, 64, 64).contiguous()
    logged = take_steps(method.stages()[0], 60, random_batch()._replace(images=images))
    for name in ("reconstruction", "bottleneck"):
        assert logged[-1][name] < 0.5 * logged[0][name], name
    method.eval()
    masked, inpainted = method.inpainter.fill(images, generator())
    assert masked.shape == inpainted.shape == images.shape
    assert 0 <= float(inpainted.min()) < float(inpainted.max()) <= 1
    assert (inpainted - images).abs().mean() < 0.8 * (masked - images).abs().mean()
    assert inpainted.mean((1, 2, 3)).std() > 0.5 * images.mean((1, 2, 3)).std()  # not one mean image
