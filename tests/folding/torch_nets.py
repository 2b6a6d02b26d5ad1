"""Small torch networks whose BatchNorms have statistics, with what each is about in its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

IMAGE = (2, 3, 8, 8)


def randomised(module: Any, seed: int = 0) -> Any:
    """The module in eval mode, with statistics and weights of both signs."""
    random = torch.Generator().manual_seed(seed)
    for each in module.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm) and each.running_mean is not None:
            size = each.running_mean.shape
            each.running_mean.copy_(torch.randn(size, generator=random))
            each.running_var.copy_(torch.rand(size, generator=random) + 0.3)
            each.num_batches_tracked.fill_(100)
            if each.affine:
                sign = torch.randint(2, size, generator=random) * 2 - 1
                each.weight.data.copy_((torch.rand(size, generator=random) + 0.5) * sign)
                each.bias.data.copy_(torch.randn(size, generator=random))
    return module.eval()


class Residual(nn.Module):
    """A convolution without bias and one with, an addition, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = x + self.bn2(self.conv2(x))
        return self.fc(x.mean((2, 3)))


class Shared(nn.Module):
    """One convolution, called twice, before two BatchNorms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(3)
        self.bn2 = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn2(self.conv(torch.relu(self.bn1(self.conv(x)))))


class Tied(nn.Module):
    """Two convolutions with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.conv2.weight = self.conv1.weight
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(torch.relu(self.bn(self.conv1(x))))


class Twice(nn.Module):
    """One pair of convolution and BatchNorm, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(torch.relu(self.bn(self.conv(x)))))


class InPlace(nn.Module):
    """An identity BatchNorm, behind which something is written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(3, eps=0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return torch.relu_(self.bn(x)) + x


def identity(module: Any) -> Any:
    """The module with BatchNorms that change nothing."""
    module.bn.running_mean.zero_()
    module.bn.running_var.fill_(1.0)
    module.bn.weight.data.fill_(1.0)
    module.bn.bias.data.zero_()
    return module


class PreActivation(nn.Module):
    """A BatchNorm before a convolution, which pads nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 4, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.bn(x))


class Joined(nn.Module):
    """A BatchNorm behind a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(3, 2, 1)
        self.bn = nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(torch.cat([self.conv1(x), self.conv2(x)], 1))


class Flattened(nn.Module):
    """A BatchNorm before a linear layer, with a flatten between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.bn = nn.BatchNorm2d(2)
        self.fc = nn.Linear(72, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.conv(x))
        return self.fc(torch.flatten(self.bn(x), 1))


class Branch(nn.Module):
    """A block of RepVGG: its branch without weights is a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.identity = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.dense(x)) + self.identity(x))


class Blocked(nn.Module):
    """Two BatchNorms that stay: behind an activation, and behind what is read elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(3)
        self.bn2 = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.bn2(torch.tanh(self.bn1(x))) + x


class Product(nn.Module):
    """A BatchNorm behind a matrix product, which has no place for a shift."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(x @ self.weight))


def sequential(*layers: Any) -> Callable[[], Any]:
    return lambda: nn.Sequential(*layers)


Case = tuple[Callable[[], Any], tuple[int, ...], int, int]  # inputs' shape, folded, kept
NETS: dict[str, Case] = {
    "residual": (Residual, IMAGE, 2, 0),
    "shared weights": (Shared, IMAGE, 2, 0),
    "tied weights": (Tied, IMAGE, 1, 0),
    "called twice": (Twice, IMAGE, 1, 0),
    "before a convolution": (PreActivation, IMAGE, 1, 0),
    "behind a concatenation": (Joined, IMAGE, 1, 0),
    "before a flatten": (Flattened, IMAGE, 1, 0),
    "a branch without weights": (Branch, IMAGE, 2, 0),
    "nothing that absorbs": (Blocked, IMAGE, 0, 2),
    "a matrix product": (Product, (5, 6), 1, 0),
    "transposed, grouped": (
        sequential(nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6)),
        (2, 4, 5, 5),
        1,
        0,
    ),
    "depthwise": (
        sequential(nn.Conv2d(3, 6, 3, groups=3, bias=False), nn.BatchNorm2d(6), nn.ReLU6()),
        IMAGE,
        1,
        0,
    ),
    "linear": (
        sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(inplace=True)),
        (5, 6),
        1,
        0,
    ),
    "in one dimension": (
        sequential(nn.Conv1d(3, 4, 3, bias=False), nn.BatchNorm1d(4, affine=False)),
        (2, 3, 9),
        1,
        0,
    ),
    "in three dimensions": (
        sequential(nn.Conv3d(3, 4, 2, bias=False), nn.BatchNorm3d(4), nn.Dropout3d()),
        (2, 3, 4, 4, 4),
        1,
        0,
    ),
    "behind a pooling": (
        sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.BatchNorm2d(4)),
        IMAGE,
        1,
        0,
    ),
}


def net(name: str) -> tuple[Any, Any]:
    """A network of the table and an input for it."""
    make, shape, _, _ = NETS[name]
    torch.manual_seed(0)
    return randomised(make()), torch.randn(shape)
