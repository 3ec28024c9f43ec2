"""Stage 1: GPT-Net learns to fill in what is masked, so that its encoder learns what good pictures are like (Sec. 3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.func import functional_call

from adjobs.methods.slsg.config import Config
from adjobs.methods.slsg.networks import CoarsePicture, Discriminator, Encoder, PictureDecoder
from adjobs.nn.distributed import global_mean
from adjobs.nn.norm import of_the_batch
from adjobs.synthesis.rectangles import boxes
from adjobs.types import Batch, StepLoss

FILL_BATCH = 16
PIXELS = 256  # side of the pictures that the paper gives its sizes for


class Inpainter(nn.Module):
    """GPT-Net: encoder, decoder with skips, a picture from the bottleneck, and the discriminator that judges the decoder's."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.width)
        self.decoder = PictureDecoder(config.width)
        self.coarse = CoarsePicture(config.width)
        self.discriminator = Discriminator(config.width)

    def forward(self, batch: Batch) -> StepLoss:
        """The losses of generator, eq. (10), and discriminator, eq. (9), as one: neither reaches the other's parameters."""
        config = self.config
        real = self.encoder.normalised(batch.images)
        maps = self.encoder(real * ~masked(config, real, batch.generator))
        picture = self.decoder(maps)
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        fooled = functional_call(self.discriminator, fixed, (picture,))
        on_real, on_made = self.discriminator(real), self.discriminator(picture.detach())
        terms = {
            "adversarial": (fooled - 1).square() / 2,
            "reconstruction": (picture - real).abs(),
            "bottleneck": (self.coarse(maps[-1]) - real).square(),
            "discriminator": (on_made.square() + (on_real - 1).square()) / 2,
        }
        means = {name: global_mean(values.float().flatten(1).mean(1)) for name, values in terms.items()}
        weights = {
            "adversarial": config.alpha_adv,
            "reconstruction": config.alpha_rec,
            "bottleneck": config.alpha_bottleneck,
            "discriminator": 1.0,
        }
        loss = torch.stack([weights[name] * mean for name, mean in means.items()]).sum()
        # Both ½ where the discriminator has given up, 1 and 0 where it has won.
        judged = {"judged_real": on_real.detach().float().mean(), "judged_made": on_made.detach().float().mean()}
        return StepLoss(loss, {name: mean.detach() for name, mean in means.items()} | judged)

    @torch.no_grad()
    def fill(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Masked pictures and what is made of them, both ``(B, 3, H, W)`` in [0, 1]."""
        encoder, real = self.encoder, self.encoder.normalised(images)
        hidden = real * ~masked(self.config, real, generator)
        with of_the_batch(self):  # the encoder's own statistics are those of whole pictures by now
            made = torch.cat([self.decoder(encoder(part)) for part in torch.split(hidden, FILL_BATCH)])
        masks, pictures = ((each * encoder.std + encoder.mean).clamp(0, 1) for each in (hidden, made))
        return masks, pictures


def masked(config: Config, images: Tensor, generator: Generator) -> Tensor:
    """What the encoder does not see, ``(B, 1, H, W)`` bool: cells of a grid, and large rectangles."""
    batch, _, height, width = images.shape
    across = config.cells if config.grid_mode == "cells" else max(1, round(PIXELS / config.cells))
    draw = torch.rand(batch, across**2, generator=generator, device=images.device)
    hidden = draw.argsort(1).argsort(1) < round(config.mask_ratio * across**2)
    grid = F.interpolate(hidden.view(batch, 1, across, across).float(), (height, width), mode="nearest").bool()
    sides = (config.large_min / PIXELS, config.large_max / PIXELS)
    return grid | boxes(generator, batch, (height, width), count=config.large_masks, sides=sides)
