"""Small networks for what the families of the libraries do not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional


class Volume(nn.Module):
    """Three axes of space."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm3d(8)
        self.pool = nn.AvgPool3d(2, padding=1)
        self.up = nn.ConvTranspose3d(8, 4, 2, 2)
        self.norm = nn.InstanceNorm3d(4, affine=True)
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(functional.relu(self.bn(self.conv(x))))
        return self.head(self.norm(self.up(x)).mean((-1, -2, -3)))


class Signal(nn.Module):
    """One axis of space, an even kernel with padding "same", padding by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 8, 4, padding="same", bias=False)
        self.bn = nn.BatchNorm1d(8)
        self.group = nn.GroupNorm(2, 8)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, 5)
        self.last = nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.leaky_relu(self.bn(self.conv(x)), 0.1)
        x = functional.pad(self.group(x) * 2 - 1, (1, 2))
        return self.last(self.head(self.drop(functional.max_pool1d(x, 2)).mean(-1)))


class UNet(nn.Module):
    """Skips that are concatenated; upsampling by interpolation and by a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([self._block(3, 8), self._block(8, 16), self._block(16, 32)])
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)
        self.join = nn.ModuleList([self._block(32, 16), self._block(24, 8)])
        self.pool = nn.MaxPool2d(2)

    def _block(self, given: int, made: int) -> Any:
        conv = nn.Conv2d(given, made, 3, padding=1)
        return nn.Sequential(conv, nn.BatchNorm2d(made), nn.ReLU(inplace=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.down[0](x)
        second = self.down[1](self.pool(first))
        third = self.down[2](self.pool(second))
        x = self.join[0](torch.cat([self.up(third), second], 1))
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.join[1](torch.cat([x, first], dim=1))


class Shuffles(nn.Module):
    """Pixel shuffle, parts of unequal size, reflection, groups."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8)
        self.conv3, self.bn3 = nn.Conv2d(8, 8, 3, groups=4), nn.BatchNorm2d(8, eps=1e-3)
        self.shuffle, self.relu, self.pad = nn.PixelShuffle(2), nn.PReLU(8), nn.ReflectionPad2d(1)
        self.flatten, self.head = nn.Flatten(), nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn2(self.conv2(self.shuffle(self.bn1(self.conv1(x))))))
        left, right = torch.split(self.bn3(self.conv3(self.pad(x))), [3, 5], 1)
        pooled = functional.adaptive_avg_pool2d(torch.cat([right, left], 1), (1, 1))
        return self.head(self.flatten(pooled))


class Attention(nn.Module):
    """A vision transformer of one block, behind an InstanceNorm and a GroupNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.instance, self.plain = nn.InstanceNorm2d(8, affine=True), nn.InstanceNorm2d(8)
        self.group, self.layer = nn.GroupNorm(4, 8, eps=1e-4), nn.LayerNorm(8)
        self.parts, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.position = nn.Parameter(torch.rand(1, 64, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.group(self.plain(self.instance(self.conv(x))))
        x = x.flatten(2).transpose(1, 2) + self.position
        query, key, value = self.parts(self.layer(x)).chunk(3, dim=-1)
        weights = torch.softmax(query @ key.transpose(-2, -1) * 8**-0.5, dim=-1)
        return x + self.out(weights @ value)


class RootMeanSquare(nn.Module):
    """RMSNorm in an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)
        self.norm = nn.RMSNorm(16, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(functional.silu(self.norm(self.first(x))))


class Arithmetic(nn.Module):
    """Sums, differences, products and quotients of data, constants and numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))
        self.register_buffer("std", torch.rand(1, 3, 1, 1) + 0.5)
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.scale, self.shift = (nn.Parameter(torch.rand(8, 1, 1) + 0.5) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv1((x - self.mean) / self.std))
        y = 1 - self.scale * x
        z = 2 / (self.bn2(self.conv2(torch.sigmoid(y))) + 3.0)
        return torch.sub(self.shift - (y - z), x, alpha=2) / z


# class and shape of the input
OWN: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "volume": (Volume, (1, 3, 8, 8, 8)),
    "signal": (Signal, (2, 3, 16)),
    "unet": (UNet, (1, 3, 32, 32)),
    "shuffles": (Shuffles, (1, 3, 8, 8)),
    "attention": (Attention, (1, 3, 17, 17)),
    "root mean square": (RootMeanSquare, (2, 5, 8)),
    "arithmetic": (Arithmetic, (1, 3, 8, 8)),
}
