"""The networks of both stages: encoder, decoders, discriminator. Section numbers are the paper's, channel counts ResNet18's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from adjobs.backbones import Backbone

STRIDE = 16  # of the bottleneck: the max pooling is left out, as in the published code
# Least number of channels at full resolution, the published code's at width 64. With two or four channels a ReLU easily dies for
# every image.
MIN_CHANNELS = 16
NEGATIVE_SLOPE = 0.2  # of the discriminator's LeakyReLU; the paper does not say, pix2pix's


class Encoder(nn.Module):
    """ResNet18 without max pooling and classifier; layers are named as in timm, so that its weights load at width 64."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = [width, width, 2 * width, 4 * width, 8 * width]
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _residual_layer(width, width, 1)
        self.layer2 = _residual_layer(width, 2 * width, 2)
        self.layer3 = _residual_layer(2 * width, 4 * width, 2)
        self.layer4 = _residual_layer(4 * width, 8 * width, 2)
        # ImageNet's statistics: required by its weights, and as good a scale as any for weights that are trained here.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def normalise(self, images: Tensor) -> Tensor:
        """Images in [0, 1] to the network's input range, in which 0 is ImageNet's mean."""
        return (images - self.mean) / self.std

    def denormalise(self, normalised: Tensor) -> Tensor:
        """The inverse of `normalise`, clipped to [0, 1]."""
        return (normalised * self.std + self.mean).clamp(0, 1)

    def forward(self, normalised: Tensor) -> list[Tensor]:
        """Feature maps of the stem and the four layers.

        Channels w, w, 2w, 4w, 8w at strides 2, 2, 4, 8, 16, for width w.
        """
        maps = [F.relu(self.bn1(self.conv1(normalised)))]
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps.append(layer(maps[-1]))
        return maps

    def load_matching(self, weights: Mapping[str, Tensor]) -> None:
        """Load the tensors that the encoder has and ignore all others, such as a classifier's."""
        state = self.state_dict()
        self.load_state_dict({**state, **{key: tensor for key, tensor in weights.items() if key in state}})


class BackboneEncoder(nn.Module):
    """A frozen pretrained network in the encoder's place, and convolutions that bring its maps to the encoder's channels.

    Args:
        backbone: gives the maps of strides 2, 4, 8 and 16.
        width: channels of the encoder's stem.
    """

    def __init__(self, backbone: Backbone, width: int) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        with torch.inference_mode():
            channels = self.channels = [maps.shape[1] for maps in backbone(torch.zeros(1, 3, 64, 64))]
        # The stem has the stride of the first layer, and a backbone one map of this stride.
        pairs = zip([channels[0], *channels], (width, width, 2 * width, 4 * width, 8 * width), strict=True)
        self.adapters = nn.ModuleList(conv_group(*pair, 1) for pair in pairs)

    def adapt(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The backbone's four maps as the encoder's five."""
        return [adapter(level) for adapter, level in zip(self.adapters, [maps[0], *maps], strict=True)]


def _residual_layer(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Two residual blocks."""
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels))
    return nn.Sequential(BasicBlock(in_channels, out_channels, stride, shortcut), BasicBlock(out_channels, out_channels))


def conv_group(in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Sequential:
    """The paper's "convolution group" (Sec. 4.2): convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class UpBlock(nn.Module):
    """An up-sampling block: doubles the resolution, then a convolution group, and another one after skip connections."""

    def __init__(self, in_channels: int, out_channels: int, skip_channels: int = 0) -> None:
        super().__init__()
        self.reduce = conv_group(in_channels, out_channels)
        self.join = conv_group(out_channels + skip_channels, out_channels) if skip_channels else None

    def forward(self, maps: Tensor, skips: Sequence[Tensor] = ()) -> Tensor:
        """``(B, in, H, W)`` and skip connections of 2H × 2W to ``(B, out, 2H, 2W)``."""
        x = self.reduce(F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False))
        if self.join is not None:
            x = self.join(torch.cat([x, *skips], 1))
        return x  # type: ignore[no-any-return]


class ImageDecoder(nn.Module):
    """Encoder maps to an image: four up-sampling blocks with skips, then a block of two convolution groups (Sec. 4.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.up3, self.up2, self.up1 = UpBlock(8 * w, 4 * w, 4 * w), UpBlock(4 * w, 2 * w, 2 * w), UpBlock(2 * w, w, w)
        half = max(MIN_CHANNELS, w // 2)
        self.up0 = UpBlock(w, half)
        self.block = nn.Sequential(conv_group(half, half), conv_group(half, half), nn.Conv2d(half, 3, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``(B, 3, H, W)``, normalised as the encoder's input."""
        _, map1, map2, map3, bottleneck = maps
        x = self.up1(self.up2(self.up3(bottleneck, [map3]), [map2]), [map1])
        return self.block(self.up0(x))  # type: ignore[no-any-return]


class CoarseImageHead(nn.Sequential):
    """Reconstruction directly from the bottleneck (Sec. 3.1): each position yields 16 × 16 pixels. The paper names no layers."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv2d(8 * width, 3 * STRIDE**2, 1), nn.PixelShuffle(STRIDE))


class Discriminator(nn.Sequential):
    """Markov discriminator D-Net: four convolution groups, one value per patch of 46 pixels; kernels and strides of pix2pix.

    Batch normalisation has no running statistics: it is only called in training, with real and fake images in separate batches.
    """

    def __init__(self, width: int) -> None:
        def down(in_channels: int, out_channels: int) -> list[nn.Module]:
            convolution = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
            return [convolution, nn.BatchNorm2d(out_channels, track_running_stats=False), nn.LeakyReLU(NEGATIVE_SLOPE)]

        stem = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(NEGATIVE_SLOPE)]
        groups = [*down(width, 2 * width), *down(2 * width, 4 * width)]
        super().__init__(*stem, *groups, nn.Conv2d(4 * width, 1, 4, stride=1, padding=1))


class SkipAttention(nn.Module):
    """Attention on a skip connection by depthwise convolutions with a large receptive field (published code, not the paper)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.dilated = nn.Conv2d(channels, channels, 3, padding=3, dilation=3, groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        return maps + maps * self.mix(self.dilated(self.local(maps)))  # type: ignore[no-any-return]


class SegmentationDecoder(nn.Module):
    """Encoder maps and bottleneck X' to two logits per pixel (Fig. 2; channel counts of the published code)."""

    def __init__(self, width: int, *, bottleneck_skip: bool, skip_attention: bool) -> None:
        super().__init__()
        w = width
        extra = w // 2 if bottleneck_skip else 0
        self.bottleneck = conv_group(8 * w, extra, 1) if bottleneck_skip else None
        self.skips = nn.ModuleList(SkipAttention(c) if skip_attention else nn.Identity() for c in (w, w, 2 * w, 4 * w))
        self.up3 = UpBlock(8 * w, 4 * w, 4 * w + extra)
        self.up2 = UpBlock(4 * w, 2 * w, 2 * w + extra)
        self.up1 = UpBlock(2 * w, w, w + extra)
        self.stem = conv_group(2 * w, w)
        half, quarter = max(MIN_CHANNELS, w // 2), max(MIN_CHANNELS, w // 4)
        self.up0 = UpBlock(w, half)
        self.block = nn.Sequential(conv_group(half, quarter), nn.Conv2d(quarter, 2, 1))

    def forward(self, maps: Sequence[Tensor], x: Tensor) -> Tensor:
        """Logits ``(B, 2, H, W)`` of the encoder's maps and X' ``(B, 8w, H / 16, W / 16)``."""
        stem, skip1, skip2, skip3 = (skip(level) for skip, level in zip(self.skips, maps, strict=False))
        y = self.up3(x, self._skips(x, skip3))
        y = self.up2(y, self._skips(x, skip2))
        y = self.up1(y, self._skips(x, skip1))
        y = self.stem(torch.cat([y, stem], 1))
        return self.block(self.up0(y))  # type: ignore[no-any-return]

    def _skips(self, x: Tensor, skip: Tensor) -> list[Tensor]:
        """The encoder's skip connection and, unless it is switched off, that of the bottleneck."""
        if self.bottleneck is None:
            return [skip]
        deep = F.interpolate(self.bottleneck(x), skip.shape[-2:], mode="bilinear", align_corners=False)
        return [skip, deep]


class AuxiliaryHead(nn.Module):
    """Two logits per pixel directly from X' (Sec. 4.7)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv_group(8 * width, 2 * width), nn.Conv2d(2 * width, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 8w, H, W)`` to ``(B, 2, 16H, 16W)``."""
        return F.interpolate(self.layers(x), scale_factor=STRIDE, mode="bilinear", align_corners=False)
