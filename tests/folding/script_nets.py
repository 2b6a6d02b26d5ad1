"""Networks whose code says more than which layer follows which: what TorchScript makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Dict, List, NamedTuple, Optional, Tuple  # noqa: UP035 (as TorchScript wants it)

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody calls it)
from torch import Tensor, nn

IMAGE = (2, 3, 12, 12)


class Pair(nn.Module):
    """A convolution and a BatchNorm, on which the networks here are built."""

    def __init__(self, channels: int = 3, out: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Blocks(nn.Module):
    """A list of blocks in a loop, with additions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Pair(3, 4)
        self.blocks = nn.ModuleList([Pair(4, 4) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.stem(x))
        for block in self.blocks:
            x = x + torch.relu_(block(x))
        return x


class ReadsEps(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) * self.bn.eps


class ReadsWeight(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) * self.bn.weight.sum()


class ReadsInTraining(Pair):
    """A branch that is never taken needs the statistics, to be compiled."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x * self.bn.running_mean.sum()
        return self.bn(self.conv(x))


class GivesWeight(Pair):
    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        return self.bn(self.conv(x)), self.conv.weight


class GivesStatistics(Pair):
    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        return self.bn(self.conv(x)), self.bn.running_var


class Functions(Pair):
    """No module is called, only functions."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.conv.weight, self.conv.bias)
        norm = self.bn
        return F.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.1, norm.eps
        )


def convolved(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:  # noqa: UP045
    return F.conv2d(x, weight, bias)


class OwnFunction(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(convolved(x, self.conv.weight, self.conv.bias))


class Method(Pair):
    def block(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.block(x))


class SharedPair(nn.Module):
    """One module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one = Pair(3, 3)
        self.other = self.one

    def forward(self, x: Tensor) -> Tensor:
        return self.other(torch.relu(self.one(x)))


class Absent(Pair):
    """A part that is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.down: Optional[nn.Module] = None  # noqa: UP045

    def forward(self, x: Tensor) -> Tensor:
        if self.down is not None:
            x = self.down(x)
        return self.bn(self.conv(x))


class Lists(nn.Module):
    """Branches that meet in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 2, 3)
        self.bn = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        parts: List[Tensor] = []  # noqa: UP006
        parts.append(self.one(x))
        parts.append(self.other(x))
        return self.bn(torch.cat(parts, 1))


class Dictionary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = Pair(3, 4), Pair(4, 4)

    def forward(self, x: Tensor) -> Dict[str, Tensor]:  # noqa: UP006
        low = torch.relu(self.one(x))
        return {"low": low, "high": self.other(low)}


class Features(NamedTuple):
    low: Tensor
    high: Tensor


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = Pair(3, 4), Pair(4, 4)

    def forward(self, x: Tensor) -> Features:
        low = torch.relu(self.one(x))
        return Features(low, self.other(low))


class Decides(nn.Module):
    """Which branch is taken depends on the data; each has a convolution of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = Pair(), Pair()

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) if x.mean() > 0 else self.other(x)


class DecidesBehind(nn.Module):
    """The branches share the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.one, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.one(x) if x.mean() > 0 else self.other(x)


class Loops(nn.Module):
    """As many turns as the batch has samples."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(x.shape[0]):
            x = torch.tanh(self.pair(x))
        return x


class OneConvTwoNorms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.one, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.conv(torch.tanh(self.one(self.conv(x)))))


class Scaled(nn.Module):
    """A module around a BatchNorm alone, of which another attribute is read."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(4)
        self.scale = 2.0

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x)


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = Scaled()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) * self.norm.scale


class Defaults(Pair):
    """Arguments that need not be given."""

    def forward(self, x: Tensor, y: Optional[Tensor] = None, scale: float = 1.0) -> Tensor:  # noqa: UP045
        made = self.bn(self.conv(x))
        return made * scale if y is None else made + y


class OwnStatistics(nn.Module):
    """A BatchNorm without a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.mean, self.var = nn.Buffer(torch.randn(4)), nn.Buffer(torch.rand(4) + 0.5)
        self.scale, self.shift = nn.Parameter(torch.rand(4) + 0.5), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        made = self.conv(x)
        return F.batch_norm(made, self.mean, self.var, self.scale, self.shift, False, 0.1, 1e-5)


class WrittenThroughView(Pair):
    """What the BatchNorm reads was changed since, under another name."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x.view(-1).mul_(2.0)
        return self.bn(x)


class TwoMethods(Pair):
    @torch.jit.export
    def raw(self, x: Tensor) -> Tensor:
        return self.conv(x)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = Pair(3, 4), Pair(4, 6)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.out = Pair(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        down = torch.relu(self.down(x))
        deep = torch.relu(self.deep(F.max_pool2d(down, 2)))
        return self.out(torch.cat([down, self.norm(self.up(deep))], 1))


Case = tuple[Callable[[], nn.Module], int, dict[str, str]]  # folded, kept and why
NETS: dict[str, Case] = {
    "blocks in a loop": (Blocks, 4, {}),
    "eps is read": (ReadsEps, 1, {}),  # a constant of the class, which code has as a number
    "weight is read": (ReadsWeight, 0, {"bn": "shared-parameters"}),
    "statistics are read in a branch for training": (
        ReadsInTraining,
        0,
        {"bn": "shared-parameters"},
    ),
    "weight of the convolution is an output": (GivesWeight, 1, {}),
    "statistics are an output": (GivesStatistics, 0, {"bn": "shared-parameters"}),
    "functions in place of modules": (Functions, 0, {"bn": "functional"}),
    "a function of its own": (OwnFunction, 0, {"bn": "no-bias"}),
    "a method of its own": (Method, 1, {}),
    "one module under two names": (SharedPair, 2, {}),
    "a part that is absent": (Absent, 1, {}),
    "a list of branches": (Lists, 1, {}),
    "a dictionary of outputs": (Dictionary, 2, {}),
    "a named tuple of outputs": (Named, 2, {}),
    "a branch chosen by the data": (Decides, 2, {}),
    "a branch behind the convolution": (
        DecidesBehind,
        0,
        {"one": "read-elsewhere", "other": "read-elsewhere"},
    ),
    "a loop of unknown length": (Loops, 1, {}),
    "one convolution for two BatchNorms": (
        OneConvTwoNorms,
        0,
        {"one": "shared-parameters", "other": "shared-parameters"},
    ),
    "a module around a BatchNorm": (Wrapped, 1, {}),
    "arguments with defaults": (Defaults, 1, {}),
    "statistics of its own": (OwnStatistics, 0, {"batch_norm": "functional"}),
    "U-Net": (UNet, 4, {}),
}
