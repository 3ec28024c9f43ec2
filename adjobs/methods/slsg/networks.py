"""The networks that both stages are made of: encoder, decoders, discriminator. Sections are the paper's, widths ResNet18's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

STRIDE = 16  # of the last maps: the max pooling is left out, as in the published code
THIN = (
    16  # fewest channels at full size, the published code's at width 64: a ReLU behind two or four easily dies for every picture
)
LEAK = 0.2  # slope of the discriminator's LeakyReLU; the paper does not say, pix2pix's


class Encoder(nn.Module):
    """ResNet18 without its max pooling and its classifier; layers are named as timm's, so that its weights fit at width 64."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _layer(width, width, 1)
        self.layer2 = _layer(width, 2 * width, 2)
        self.layer3 = _layer(2 * width, 4 * width, 2)
        self.layer4 = _layer(4 * width, 8 * width, 2)
        # ImageNet's: for its own weights, and a scale as good as any other for those that are learnt here.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def normalised(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the network wants them; 0 is ImageNet's mean."""
        return (images - self.mean) / self.std

    def forward(self, normalised: Tensor) -> list[Tensor]:
        """Maps of the stem and the four layers, for a picture of H × W pixels and width w.

        Channels w, w, 2w, 4w, 8w at strides 2, 2, 4, 8, 16.
        """
        maps = [F.relu(self.bn1(self.conv1(normalised)))]
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps.append(layer(maps[-1]))
        return maps

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Load the tensors that the encoder has; further ones, such as a classifier's, are ignored."""
        own = self.state_dict()
        self.load_state_dict({**own, **{key: tensor for key, tensor in weights.items() if key in own}})


def _layer(before: int, after: int, stride: int) -> nn.Sequential:
    """Two residual blocks."""
    shortcut = None
    if stride != 1 or before != after:
        shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))
    return nn.Sequential(BasicBlock(before, after, stride, shortcut), BasicBlock(after, after))


def group(before: int, after: int, kernel: int = 3) -> nn.Sequential:
    """A "convolution group" (Sec. 4.2): convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


class Up(nn.Module):
    """An up-sampling block: twice the size, a convolution group, and another one where maps of that size join."""

    def __init__(self, before: int, after: int, joining: int = 0) -> None:
        super().__init__()
        self.narrow = group(before, after)
        self.join = group(after + joining, after) if joining else None

    def forward(self, maps: Tensor, joining: Sequence[Tensor] = ()) -> Tensor:
        """``(B, before, H, W)`` and maps of 2H × 2W to ``(B, after, 2H, 2W)``."""
        x = self.narrow(F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False))
        if self.join is not None:
            x = self.join(torch.cat([x, *joining], 1))
        return x  # type: ignore[no-any-return]


class PictureDecoder(nn.Module):
    """From the encoder's maps to a picture: four up-sampling blocks, skips, a block of two convolution groups (Sec. 4.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.up3, self.up2, self.up1 = Up(8 * w, 4 * w, 4 * w), Up(4 * w, 2 * w, 2 * w), Up(2 * w, w, w)
        half = max(THIN, w // 2)
        self.up0 = Up(w, half)
        self.block = nn.Sequential(group(half, half), group(half, half), nn.Conv2d(half, 3, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``(B, 3, H, W)``, in the encoder's units."""
        _, one, two, three, x = maps
        x = self.up1(self.up2(self.up3(x, [three]), [two]), [one])
        return self.block(self.up0(x))  # type: ignore[no-any-return]


class CoarsePicture(nn.Sequential):
    """A picture directly from the bottleneck (Sec. 3.1): every place draws its 16 × 16 pixels. The paper names no layers."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv2d(8 * width, 3 * STRIDE**2, 1), nn.PixelShuffle(STRIDE))


class Discriminator(nn.Sequential):
    """Markov discriminator (D-Net): four convolution groups, a value for each patch of 46 pixels; kernels and strides of pix2pix.

    Batch normalisation without running statistics: it is only asked in training, where it sees pictures of one kind at a time.
    """

    def __init__(self, width: int) -> None:
        def down(before: int, after: int) -> list[nn.Module]:
            convolution = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
            return [convolution, nn.BatchNorm2d(after, track_running_stats=False), nn.LeakyReLU(LEAK)]

        first = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(LEAK)]
        rest = [*down(width, 2 * width), *down(2 * width, 4 * width), nn.Conv2d(4 * width, 1, 4, stride=1, padding=1)]
        super().__init__(*first, *rest)


class SkipAttention(nn.Module):
    """What of a skip's maps matters, by depthwise convolutions of a large reach (published code; not in the paper)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.far = nn.Conv2d(channels, channels, 3, padding=3, dilation=3, groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Of the same shape."""
        return maps + maps * self.mix(self.far(self.near(maps)))  # type: ignore[no-any-return]


class MapDecoder(nn.Module):
    """From the encoder's maps and the bottleneck X' to two logits for each pixel (Fig. 2; widths of the published code)."""

    def __init__(self, width: int, *, bottleneck_skip: bool, skip_attention: bool) -> None:
        super().__init__()
        w = width
        extra = w // 2 if bottleneck_skip else 0
        self.bottleneck = group(8 * w, extra, 1) if bottleneck_skip else None
        self.skips = nn.ModuleList(SkipAttention(c) if skip_attention else nn.Identity() for c in (w, w, 2 * w, 4 * w))
        self.up3 = Up(8 * w, 4 * w, 4 * w + extra)
        self.up2 = Up(4 * w, 2 * w, 2 * w + extra)
        self.up1 = Up(2 * w, w, w + extra)
        self.stem = group(2 * w, w)
        half, quarter = max(THIN, w // 2), max(THIN, w // 4)
        self.up0 = Up(w, half)
        self.block = nn.Sequential(group(half, quarter), nn.Conv2d(quarter, 2, 1))

    def forward(self, maps: Sequence[Tensor], x: Tensor) -> Tensor:
        """``(B, 2, H, W)`` of the encoder's maps and X' ``(B, 8w, H / 16, W / 16)``."""
        stem, one, two, three = (skip(level) for skip, level in zip(self.skips, maps, strict=False))
        y = self.up3(x, self._joining(x, three))
        y = self.up2(y, self._joining(x, two))
        y = self.up1(y, self._joining(x, one))
        y = self.stem(torch.cat([y, stem], 1))
        return self.block(self.up0(y))  # type: ignore[no-any-return]

    def _joining(self, x: Tensor, skip: Tensor) -> list[Tensor]:
        if self.bottleneck is None:
            return [skip]
        deep = F.interpolate(self.bottleneck(x), skip.shape[-2:], mode="bilinear", align_corners=False)
        return [skip, deep]


class AuxiliaryHead(nn.Module):
    """Two logits for each pixel directly from X' (Sec. 4.7)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(group(8 * width, 2 * width), nn.Conv2d(2 * width, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 2, 16H, 16W)`` of ``(B, 8w, H, W)``."""
        return F.interpolate(self.layers(x), scale_factor=STRIDE, mode="bilinear", align_corners=False)
