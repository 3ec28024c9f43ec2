"""Stage 1: GPT-Net inpaints masked normal images, so that its encoder learns what they look like (Sec. 3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.func import functional_call

from adjobs.methods.slsg.config import Config
from adjobs.methods.slsg.networks import CoarseImageHead, Discriminator, Encoder, ImageDecoder
from adjobs.nn.distributed import global_mean
from adjobs.nn.norm import use_batch_statistics
from adjobs.synthesis.rectangles import random_rectangles
from adjobs.types import Batch, StepLoss

CHUNK = 16  # images that are inpainted at a time for display
REFERENCE_SIZE = 256  # side in pixels of the paper's images, to which its lengths refer


class Inpainter(nn.Module):
    """GPT-Net: encoder, decoder with skip connections, reconstruction from the bottleneck, and the discriminator D-Net."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.width)
        self.decoder = ImageDecoder(config.width)
        self.coarse = CoarseImageHead(config.width)
        self.discriminator = Discriminator(config.width)

    def forward(self, batch: Batch) -> StepLoss:
        """Sum of the losses of the generator, eq. (10), and the discriminator, eq. (9); gradients of neither reach the other."""
        config = self.config
        real = self.encoder.normalise(batch.images)
        maps = self.encoder(real * ~draw_inpainting_masks(config, real, batch.generator))
        fake = self.decoder(maps)
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        fooled = functional_call(self.discriminator, fixed, (fake,))
        on_real, on_fake = self.discriminator(real), self.discriminator(fake.detach())
        terms = {
            "adversarial": (fooled - 1).square() / 2,
            "reconstruction": (fake - real).abs(),
            "bottleneck": (self.coarse(maps[-1]) - real).square(),
            "discriminator": (on_fake.square() + (on_real - 1).square()) / 2,
        }
        means = {name: global_mean(values.float().flatten(1).mean(1)) for name, values in terms.items()}
        weights = {
            "adversarial": config.alpha_adv,
            "reconstruction": config.alpha_rec,
            "bottleneck": config.alpha_bottleneck,
            "discriminator": 1.0,
        }
        loss = torch.stack([weights[name] * mean for name, mean in means.items()]).sum()
        # Both approach ½ where the discriminator cannot tell real from fake, 1 and 0 where it separates them perfectly.
        outputs = {
            "discriminator_real": on_real.detach().float().mean(),
            "discriminator_fake": on_fake.detach().float().mean(),
        }
        return StepLoss(loss, {name: mean.detach() for name, mean in means.items()} | outputs)

    @torch.no_grad()
    def fill(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mask and inpaint images.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1].
            generator: on the images' device.

        Returns:
            The masked and the inpainted images, both ``(B, 3, H, W)`` in [0, 1].
        """
        encoder, real = self.encoder, self.encoder.normalise(images)
        masked = real * ~draw_inpainting_masks(self.config, real, generator)
        with use_batch_statistics(self):  # after stage 2 the encoder's running statistics are those of unmasked images
            inpainted = torch.cat([self.decoder(encoder(chunk)) for chunk in torch.split(masked, CHUNK)])
        return encoder.denormalise(masked), encoder.denormalise(inpainted)


def draw_inpainting_masks(config: Config, images: Tensor, generator: Generator) -> Tensor:
    """What is hidden from the encoder: cells of a grid and large rectangles, ``(B, 1, H, W)`` bool."""
    batch, _, height, width = images.shape
    cells = config.grid_size if config.grid_unit == "cells" else max(1, round(REFERENCE_SIZE / config.grid_size))
    draw = torch.rand(batch, cells**2, generator=generator, device=images.device)
    masked = draw.argsort(1).argsort(1) < round(config.mask_ratio * cells**2)
    grid = F.interpolate(masked.view(batch, 1, cells, cells).float(), (height, width), mode="nearest").bool()
    sides = (config.large_mask_min / REFERENCE_SIZE, config.large_mask_max / REFERENCE_SIZE)
    return grid | random_rectangles(generator, batch, (height, width), count=config.large_masks, sides=sides)
