"""Architectures that are in no package, each the essence of one; more are in fold/networks.py."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.folding.networks import CUSTOM as OF_FOLDING

IMAGE = (3, 32, 32)


class Skip(nn.Module):
    """x + f(x)."""

    def __init__(self, *inside: nn.Module) -> None:
        super().__init__()
        self.inside = nn.Sequential(*inside)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


class Standardized(nn.Conv2d):
    """Qiao et al., arXiv:1903.10520, as timm and transformers write it: by batch_norm."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        made = functional.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6)
        return self._conv_forward(x, made.reshape_as(self.weight), self.bias)


class WideAndDeep(nn.Module):
    """Cheng et al., arXiv:1606.07792: a linear model beside a deep one, data normalized first."""

    def __init__(self) -> None:
        super().__init__()
        self.given = nn.BatchNorm1d(20, affine=False)
        self.wide, self.deep = nn.Linear(20, 1), dense(20, 32, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.given(x)
        return torch.sigmoid(self.wide(x) + self.deep(x))


class Siamese(nn.Module):
    """One trunk for two views, as in BYOL (arXiv:2006.07733): its BatchNorms run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(block(3, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.projector = nn.Sequential(dense(16, 32, 16), nn.BatchNorm1d(16, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.projector(self.trunk(view)) for view in (x, x.flip(3)))
        return functional.cosine_similarity(first, second)


class FeaturePyramid(nn.Module):
    """Lin et al., arXiv:1612.03144: one head for every level."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(block(i, o, 2) for i, o in pairwise((3, 16, 32, 64)))
        self.sides = nn.ModuleList(nn.Conv2d(width, 16, 1) for width in (16, 32, 64))
        self.head = nn.Sequential(block(16, 16), nn.Conv2d(16, 4, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        made = []
        for level in self.levels:
            x = level(x)
            made.append(x)
        top = self.sides[2](made[2])
        results = [self.head(top)]
        for index in (1, 0):
            above = functional.interpolate(top, scale_factor=2.0)
            top = self.sides[index](made[index]) + above
            results.append(self.head(top))
        return tuple(results)


class TwoNorms(nn.Module):
    """A BatchNorm for each of two branches on one input: their statistics are equal."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3), nn.Conv2d(32, 4, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        left, right = torch.relu(self.norms[0](x)), torch.sigmoid(self.norms[1](x))
        return self.last(torch.cat([left, right], 1))


class Gated(nn.Module):
    """Dauphin et al., arXiv:1612.08083: a gate beside every convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.norm = nn.Conv1d(8, 32, 5, padding=2), nn.BatchNorm1d(32)
        self.last = nn.Conv1d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.glu(self.norm(self.both(x)), 1))


class Recurrent(nn.Module):
    """Shi et al., arXiv:1507.05717: convolutions, then a recurrent net along the width."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Sequential(block(3, 16, 2), block(16, 32, 2))
        self.read, self.say = nn.GRU(256, 16, batch_first=True), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        columns = self.seen(x).flatten(1, 2).transpose(1, 2)
        return self.say(self.read(columns)[0])


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Convolution with bias, BatchNorm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def dense(*sizes: int) -> nn.Sequential:
    """Linear, BatchNorm, ReLU for each size but the last, which is linear alone."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(*sizes[-2:]))


def _discriminator() -> nn.Module:
    """Radford et al., arXiv:1511.06434: no BatchNorm on the image."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 4, 2, 1), nn.LeakyReLU(0.2)]
    for inputs, outputs in ((16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(64, 1, 4))


def _convmixer() -> nn.Module:
    """Trockman and Kolter, arXiv:2201.09792: GELU before every BatchNorm."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 4, 4), nn.GELU(), nn.BatchNorm2d(32)]
    for _ in range(3):
        depthwise = nn.Conv2d(32, 32, 5, groups=32, padding="same")
        layers += [Skip(depthwise, nn.GELU(), nn.BatchNorm2d(32))]
        layers += [nn.Conv2d(32, 32, 1), nn.GELU(), nn.BatchNorm2d(32)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def _style_transfer() -> nn.Module:
    """Ulyanov et al., arXiv:1607.08022: InstanceNorm, reflected borders."""

    def unit(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")
        return [convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()]

    skip = Skip(*unit(16, 16), *unit(16, 16))
    return nn.Sequential(*unit(3, 16), skip, nn.Upsample(scale_factor=2), *unit(16, 3))


def _standardized() -> nn.Module:
    """Weight standardization under GroupNorm, as in Big Transfer (arXiv:1912.11370)."""

    def unit(inputs: int, outputs: int) -> list[nn.Module]:
        return [Standardized(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU()]

    skip = Skip(*unit(16, 16), *unit(16, 16))
    return nn.Sequential(*unit(3, 16), skip, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _super_resolution() -> nn.Module:
    """Ledig et al., arXiv:1609.04802: PReLU, BatchNorm before the addition, pixel shuffle."""
    skips = [
        Skip(
            nn.Conv2d(16, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.PReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.BatchNorm2d(16),
        )
        for _ in range(2)
    ]
    last = (nn.Conv2d(16, 64, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
    return nn.Sequential(nn.Conv2d(3, 16, 9, padding=4), nn.PReLU(), *skips, *last)


def _temporal() -> nn.Module:
    """Bai et al., arXiv:1803.01271: dilated convolutions, Dropout between the units."""
    layers: list[nn.Module] = [nn.Conv1d(8, 16, 1)]
    for dilation in (1, 2, 4):
        convolution = nn.Conv1d(16, 16, 3, padding=dilation, dilation=dilation)
        layers += [Skip(convolution, nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2))]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(16, 4))


def _autoencoder() -> nn.Module:
    down = (block(3, 16, 2), block(16, 32, 2), nn.Conv2d(32, 8, 1), nn.BatchNorm2d(8))
    up = (nn.Upsample(scale_factor=2), block(8, 16), nn.Upsample(scale_factor=2))
    return nn.Sequential(*down, *up, nn.Conv2d(16, 3, 3, padding=1), nn.Sigmoid())


def _local_response() -> nn.Module:
    """Krizhevsky et al., 2012: LocalResponseNorm."""
    first = (nn.Conv2d(3, 16, 5), nn.ReLU(), nn.LocalResponseNorm(5), nn.MaxPool2d(2))
    return nn.Sequential(*first, nn.Conv2d(16, 32, 3), nn.ReLU(), nn.LocalResponseNorm(5))


def _transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def _residual_mlp() -> nn.Module:
    """Gorishniy et al., arXiv:2106.11959: a ResNet for tables."""
    skips = [
        Skip(nn.BatchNorm1d(32), nn.Linear(32, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 32))
        for _ in range(3)
    ]
    return nn.Sequential(nn.Linear(20, 32), *skips, nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))


def _squeezed() -> nn.Module:
    """A depthwise convolution and SiLU, as in EfficientNet (arXiv:1905.11946)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU()]
    for stride in (1, 2):
        layers += [nn.Conv2d(16, 64, 1, bias=False), nn.BatchNorm2d(64, 1e-3, 0.01), nn.SiLU()]
        layers += [nn.Conv2d(64, 64, 3, stride, 1, groups=64, bias=False)]
        layers += [nn.BatchNorm2d(64, 1e-3, 0.01), nn.SiLU()]
        layers += [nn.Conv2d(64, 16, 1, bias=False), nn.BatchNorm2d(16, 1e-3, 0.01)]
    return nn.Sequential(*layers)


Shape = tuple[int, ...]
BUILDERS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    **{name: (build, shape[1:]) for name, (build, shape) in OF_FOLDING.items()},
    "discriminator": (_discriminator, IMAGE),
    "mlp": (lambda: dense(20, 64, 32, 4), (20,)),
    "wide and deep": (WideAndDeep, (20,)),
    "autoencoder": (_autoencoder, IMAGE),
    "temporal": (_temporal, (8, 64)),
    "convmixer": (_convmixer, IMAGE),
    "style transfer": (_style_transfer, IMAGE),
    "siamese": (Siamese, IMAGE),
    "weight standardization": (_standardized, IMAGE),
    "super resolution": (_super_resolution, IMAGE),
    "feature pyramid": (FeaturePyramid, IMAGE),
    "local response": (_local_response, IMAGE),
    "transformer": (_transformer, (12, 32)),
    "two norms": (TwoNorms, IMAGE),
    "gated": (Gated, (8, 64)),
    "recurrent": (Recurrent, IMAGE),
    "residual mlp": (_residual_mlp, (20,)),
    "squeezed": (_squeezed, IMAGE),
}
