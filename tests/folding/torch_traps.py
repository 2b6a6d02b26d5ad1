"""Small torch models in which folding goes wrong elsewhere, and what is to become of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations

IMAGE = (2, 3, 8, 8)
FEATURES = (2, 4, 8, 8)
Code = Callable[..., Any]


class Net(nn.Module):
    """Layers by name, and the code that calls them."""

    def __init__(self, code: Code, **layers: Any) -> None:
        super().__init__()
        self.code = code
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        return self.code(self, x)


def positive(norm: Any) -> Any:
    norm.keeps_sign = True
    return norm


def randomised(module: Any, seed: int = 0) -> Any:
    """In eval mode, with statistics and affine of both signs unless a layer keeps them positive."""
    random = torch.Generator().manual_seed(seed)
    for each in module.modules():
        if getattr(each, "running_mean", None) is None or hasattr(each, "is_ready"):
            continue
        size = each.running_mean.shape
        each.running_mean.copy_(torch.randn(size, generator=random))
        each.running_var.copy_(torch.rand(size, generator=random) + 0.5)
        if each.weight is not None:
            sign = 1 if hasattr(each, "keeps_sign") else -1
            signs = torch.where(torch.arange(*size) % 2 == 0, 1.0, float(sign))
            each.weight.data.copy_((torch.rand(size, generator=random) + 0.5) * signs)
            each.bias.data.copy_(torch.randn(size, generator=random))
    return module.eval()


@dataclass(frozen=True)
class Trap:
    """``kept`` has the layers that stay, with their reasons; all other BatchNorms go."""

    make: Callable[[], Any]
    shape: tuple[int, ...] = IMAGE
    kept: dict[str, str] = field(default_factory=dict)


def seq(*layers: Any) -> Callable[[], Any]:
    return lambda: nn.Sequential(*layers)


def net(code: Code, **layers: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: Net(code, **{name: make() for name, make in layers.items()})


def conv(i: int = 3, o: int = 4, k: int = 3, **options: Any) -> Callable[[], Any]:
    return lambda: nn.Conv2d(i, o, k, **options)


def bn(channels: int = 4, **options: Any) -> Callable[[], Any]:
    return lambda: nn.BatchNorm2d(channels, **options)


def up(channels: int = 4) -> Callable[[], Any]:
    return lambda: positive(nn.BatchNorm2d(channels))


# Subclasses, as libraries write them


class NormAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: the activation is a part of the layer."""

    def __init__(self, channels: int, act: Any) -> None:
        super().__init__(channels)
        self.drop = nn.Identity()
        self.act = act

    def forward(self, x: Any) -> Any:
        torch._assert(x.ndim == 4, f"expected 4D input (got {x.ndim}D input)")
        x = F.batch_norm(
            x,
            self.running_mean if not self.training or self.track_running_stats else None,
            self.running_var if not self.training or self.track_running_stats else None,
            self.weight,
            self.bias,
            self.training,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return self.act(self.drop(x))


class NormLeaky(nn.BatchNorm2d):
    """An activation that is a line of code."""

    def forward(self, x: Any) -> Any:
        return F.leaky_relu(super().forward(x), 0.2)


class Frozen(nn.Module):
    """As torchvision's FrozenBatchNorm2d."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(channels))

    def forward(self, x: Any) -> Any:
        weight, bias = self.weight.reshape(1, -1, 1, 1), self.bias.reshape(1, -1, 1, 1)
        mean, var = self.running_mean.reshape(1, -1, 1, 1), self.running_var.reshape(1, -1, 1, 1)
        scale = weight * (var + self.eps).rsqrt()
        return x * scale + (bias - mean * scale)


class FrozenLeaky(Frozen):
    """Looks like a frozen BatchNorm, and is none."""

    def forward(self, x: Any) -> Any:
        return F.leaky_relu(super().forward(x))


class Renamed(nn.BatchNorm2d):
    """A subclass that adds nothing."""


class Checked(nn.BatchNorm2d):
    """A subclass that only looks."""

    def _check_input_dim(self, input: Any) -> None:
        pass


class Training(nn.BatchNorm2d):
    """Stays in training mode."""

    def train(self, mode: bool = True) -> Any:
        return super().train(True)


class Standardised(nn.Conv2d):
    """A convolution that normalises its weight each time."""

    def forward(self, x: Any) -> Any:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class HalvedInside(nn.Conv2d):
    """PyTorch's own forward calls a method that is another one here."""

    def _conv_forward(self, input: Any, weight: Any, bias: Any) -> Any:
        return super()._conv_forward(input, weight * 0.5, bias)


class WithoutBias(nn.Conv2d):
    """A convolution without a bias, whose forward does what it is given."""

    def __init__(self, code: Code, size: int = 4) -> None:
        super().__init__(3, size, 3, bias=False)
        self.code = code

    def forward(self, x: Any) -> Any:
        return self.code(self, x)


def convolved(m: Any, x: Any) -> Any:
    return F.conv2d(x, m.weight, m.bias)


def added_apart(m: Any, x: Any) -> Any:
    y = F.conv2d(x, m.weight)
    return y if m.bias is None else y + m.bias[:, None, None]


def added_again(m: Any, x: Any) -> Any:
    y = convolved(m, x)
    return y if m.bias is None else y * m.bias[:, None, None]


def without_bias(code: Code) -> Callable[[], Any]:
    return seq(WithoutBias(code), nn.BatchNorm2d(4))


class SamePadded(nn.Conv2d):
    """Pads by itself, as convolutions converted from TensorFlow do."""

    def forward(self, x: Any) -> Any:
        x = F.pad(x, [1, 1, 1, 1])
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class Residual(nn.Module):
    def __init__(self, inplace: bool = True) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x: Any) -> Any:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class Shuffle(nn.Module):
    """A channel shuffle as ShuffleNet writes it."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Any) -> Any:
        batch, channels, height, width = x.shape
        x = x.view(batch, self.groups, channels // self.groups, height, width)
        return x.transpose(1, 2).contiguous().view(batch, channels, height, width)


class LevitLinear(nn.Module):
    """A linear layer before a BatchNorm over the last axis, as in LeViT."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5)

    def forward(self, x: Any) -> Any:
        x = self.fc(x)
        return self.bn(x.flatten(0, 1)).reshape_as(x)


class RepVgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.identity = nn.BatchNorm2d(4)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.bn(self.conv(x)) + self.identity(x))


class Listed(nn.Module):
    """Calls a layer that it also has in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.all = [self.conv, self.bn]

    def forward(self, x: Any) -> Any:
        for layer in self.all:
            x = layer(x)
        return x


class Reads(nn.Module):
    """Reads the numbers of a BatchNorm besides calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Any) -> Any:
        return self.bn(self.conv(x)) + self.bn.running_var.sum()


class Written(nn.Module):
    """A BatchNorm that changes nothing, behind which something is written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=0.0)
        self.bn.is_ready = True

    def forward(self, x: Any) -> Any:
        x = self.conv(x)
        return F.relu(self.bn(x), inplace=True) - x


class Siamese(nn.Module):
    """Calls its encoder twice."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: Any) -> Any:
        return self.encoder(x) - self.encoder(x.flip(3))


class Auxiliary(nn.Module):
    """Has a head that it calls in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))

    def forward(self, x: Any) -> Any:
        x = self.bn(self.conv(x))
        return (x, self.head(x)) if self.training else x


def hooked(which: str, register: str) -> Callable[[], Any]:
    def make() -> Any:
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        getattr(model.get_submodule(which), register)(lambda *given: None)
        return model

    return make


def changed(change: Callable[[Any], Any], *layers: Callable[[], Any]) -> Callable[[], Any]:
    def make() -> Any:
        model = nn.Sequential(*(layer() for layer in layers))
        change(model)
        return model

    return make


def _tie(model: Any) -> None:
    model[2].weight = model[0].weight


def _same_norm(model: Any) -> None:
    model.n2 = model.n1


def _ready(model: Any, **values: float) -> None:
    for name, value in values.items():
        getattr(model[1], name).data.fill_(value)
    model[1].is_ready = True


def two(code: Code, first: Any = conv(), second: Any = conv(), norm: Any = bn()) -> Any:  # noqa: B008
    return net(code, a=first, b=second, n=norm)


LINEAR = lambda: nn.Linear(6, 4)  # noqa: E731
BN1D = lambda: nn.BatchNorm1d(4)  # noqa: E731

TRAPS: dict[str, Trap] = {
    "conv": Trap(seq(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))),
    "conv without bias": Trap(seq(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))),
    "conv 1d": Trap(seq(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), (2, 3, 8)),
    "conv 3d": Trap(seq(nn.Conv3d(3, 4, 2), nn.BatchNorm3d(4)), (2, 3, 4, 4, 4)),
    "depthwise": Trap(seq(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8)), FEATURES),
    "grouped": Trap(seq(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), FEATURES),
    "stride and dilation": Trap(
        seq(nn.Conv2d(3, 4, 3, stride=2, padding=2, dilation=2), nn.BatchNorm2d(4))
    ),
    "padding same": Trap(seq(nn.Conv2d(3, 4, 4, padding="same"), nn.BatchNorm2d(4))),
    "circular padding": Trap(
        seq(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(4))
    ),
    "reflecting padding before": Trap(
        net(
            lambda m, x: m.b(m.n(torch.sigmoid(m.a(x)))),
            a=conv(),
            b=conv(4, 2, padding=1, padding_mode="reflect"),
            n=bn(),
        )
    ),
    "transposed": Trap(seq(nn.ConvTranspose2d(3, 4, 3, stride=2), nn.BatchNorm2d(4))),
    "transposed, as many in as out": Trap(
        seq(nn.ConvTranspose2d(3, 3, 3, bias=False), nn.BatchNorm2d(3))
    ),
    "transposed, grouped, as many in as out": Trap(
        seq(nn.ConvTranspose2d(4, 4, 3, groups=2), nn.BatchNorm2d(4)), FEATURES
    ),
    "transposed, grouped, fewer out": Trap(
        seq(nn.ConvTranspose2d(4, 2, 3, groups=2), nn.BatchNorm2d(2)), FEATURES
    ),
    "transposed 1d": Trap(seq(nn.ConvTranspose1d(3, 4, 3), nn.BatchNorm1d(4)), (2, 3, 8)),
    "transposed 3d": Trap(seq(nn.ConvTranspose3d(3, 4, 2), nn.BatchNorm3d(4)), (2, 3, 3, 3, 3)),
    "transposed behind": Trap(
        seq(nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 4, 3)), kept={"0": "model-input"}
    ),
    "linear": Trap(seq(nn.Linear(6, 4), nn.BatchNorm1d(4)), (5, 6)),
    "linear without bias": Trap(seq(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4)), (5, 6)),
    "linear behind": Trap(seq(nn.BatchNorm1d(6), nn.Linear(6, 4, bias=False)), (5, 6)),
    "linear of rank 3, as long as wide": Trap(
        seq(nn.Linear(6, 4), nn.BatchNorm1d(4)), (2, 4, 6), {"1": "channels"}
    ),
    "linear of rank 3 behind, as long as wide": Trap(
        seq(nn.BatchNorm1d(4), nn.Linear(4, 2)), (2, 4, 4), {"0": "model-input"}
    ),
    "linear, transposed, as in PointNet": Trap(
        net(lambda m, x: m.n(m.a(x).transpose(1, 2)), a=LINEAR, n=BN1D), (2, 5, 6)
    ),
    "linear, flattened, as in LeViT": Trap(LevitLinear, (2, 5, 6)),
    "conv behind, unpadded": Trap(seq(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3))),
    "conv behind, grouped": Trap(
        seq(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 2, groups=2, bias=False)), FEATURES
    ),
    "conv behind, padded": Trap(
        seq(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)), kept={"0": "model-input"}
    ),
    "conv 1x1 behind, padding same": Trap(
        seq(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1, padding="same"))
    ),
    "two convs behind": Trap(
        net(lambda m, x: m.a(m.n(x)) + m.b(m.n(x)), a=conv(), b=conv(), n=bn(3))
    ),
    "conv behind, and something else": Trap(
        net(lambda m, x: m.a(y := m.n(x)).mean() + y, a=conv(), n=bn(3)),
        kept={"n": "model-input"},
    ),
    "average pool": Trap(seq(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.BatchNorm2d(4))),
    "average pool, zeros counted": Trap(
        seq(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2, padding=1), nn.BatchNorm2d(4)),
        kept={"2": "padding"},
    ),
    "average pool, zeros not counted": Trap(
        seq(
            nn.Conv2d(3, 4, 3),
            nn.AvgPool2d(2, padding=1, count_include_pad=False),
            nn.BatchNorm2d(4),
        )
    ),
    "average pool with another divisor": Trap(
        seq(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2, divisor_override=3), nn.BatchNorm2d(4)),
        kept={"2": "padding"},
    ),
    "adaptive pool": Trap(seq(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))),
    "mean over space": Trap(
        net(lambda m, x: m.n(m.a(x).mean((2, 3))), a=conv(), n=lambda: nn.BatchNorm1d(4))
    ),
    "mean over channels": Trap(
        net(lambda m, x: m.n(m.a(x).mean(1, keepdim=True)), a=conv(), n=bn(1)),
        kept={"n": "operator"},
    ),
    "max pool": Trap(
        changed(lambda m: positive(m[2]), conv(), lambda: nn.MaxPool2d(2), bn()),
    ),
    "max pool, negative weights": Trap(
        seq(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4)), kept={"2": "activation"}
    ),
    "relu between": Trap(
        seq(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), kept={"2": "activation"}
    ),
    "dropout between": Trap(seq(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4))),
    "identity between": Trap(seq(nn.Conv2d(3, 4, 3), nn.Identity(), nn.BatchNorm2d(4))),
    "upsampling between": Trap(
        seq(nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=2, mode="bilinear"), nn.BatchNorm2d(4))
    ),
    "reflecting pad between": Trap(
        seq(nn.Conv2d(3, 4, 3), nn.ReflectionPad2d(1), nn.BatchNorm2d(4))
    ),
    "zero pad between": Trap(
        seq(nn.Conv2d(3, 4, 3), nn.ZeroPad2d(1), nn.BatchNorm2d(4)), kept={"2": "padding"}
    ),
    "concat": Trap(
        net(lambda m, x: m.n(torch.cat([m.a(x), m.b(x)], 1)), a=conv(3, 2), b=conv(3, 3), n=bn(5))
    ),
    "concat of the input": Trap(
        net(lambda m, x: m.n(torch.cat([m.a(x), x], 1)), a=conv(3, 2, padding=1), n=bn(5)),
        kept={"n": "read-elsewhere"},
    ),
    "concat along the batch": Trap(two(lambda m, x: m.n(torch.cat([m.a(x), m.b(x)], 0)))),
    "concat of one value twice": Trap(
        net(lambda m, x: m.n(torch.cat([y := m.a(x), y], 1)), a=conv(3, 2), n=bn(4)),
        kept={"n": "read-elsewhere"},
    ),
    "two branches added": Trap(two(lambda m, x: m.n(m.a(x) + m.b(x)))),
    "two branches subtracted": Trap(two(lambda m, x: m.n(m.a(x) - m.b(x)))),
    "branch multiplied by a gate": Trap(
        two(lambda m, x: m.n(m.a(x) * torch.sigmoid(m.b(x)))), kept={"n": "operator"}
    ),
    "branch added to the input": Trap(
        net(lambda m, x: m.n(m.a(x) + x), a=conv(3, 3, padding=1), n=bn(3)),
        kept={"n": "read-elsewhere"},
    ),
    "chunk": Trap(
        net(lambda m, x: torch.add(m.n((p := m.a(x).chunk(2, 1))[0]), p[1]), a=conv(3, 8), n=bn())
    ),
    "split, second part": Trap(
        net(lambda m, x: (p := m.a(x).split([3, 4], 1))[0].sum() + m.n(p[1]), a=conv(3, 7), n=bn())
    ),
    "slice": Trap(net(lambda m, x: m.n(m.a(x)[:, 2:6]), a=conv(3, 8), n=bn())),
    "overlapping slices": Trap(
        net(lambda m, x: m.n((y := m.a(x))[:, 2:6]) + y[:, 4:], a=conv(3, 8), n=bn()),
        kept={"n": "read-elsewhere"},
    ),
    "pixel shuffle": Trap(seq(nn.Conv2d(3, 8, 3), nn.PixelShuffle(2), nn.BatchNorm2d(2))),
    "pixel shuffle behind": Trap(
        net(
            lambda m, x: m.b(F.pixel_shuffle(m.n(torch.tanh(m.a(x))), 2)),
            a=conv(3, 4),
            b=conv(1, 2),
            n=bn(4),
        ),
        kept={"n": "activation"},
    ),
    "pixel unshuffle": Trap(
        seq(nn.Conv2d(3, 2, 3), nn.PixelUnshuffle(2), nn.BatchNorm2d(8)), kept={"2": "channels"}
    ),
    "channel shuffle": Trap(seq(nn.Conv2d(3, 6, 3), nn.ChannelShuffle(2), nn.BatchNorm2d(6))),
    "channel shuffle in code": Trap(seq(nn.Conv2d(3, 6, 3), Shuffle(3), nn.BatchNorm2d(6))),
    "flatten before a linear": Trap(
        seq(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5))
    ),
    "flatten before a BatchNorm": Trap(
        seq(nn.Conv2d(3, 4, 7), nn.Flatten(), nn.BatchNorm1d(16)), kept={"2": "channels"}
    ),
    "permuted there and back": Trap(
        net(
            lambda m, x: m.n(m.a(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
            a=lambda: nn.Linear(3, 4),
            n=bn(),
        )
    ),
    "spatial permutation": Trap(net(lambda m, x: m.n(m.a(x).transpose(2, 3)), a=conv(), n=bn())),
    "channels swapped with space": Trap(
        net(lambda m, x: m.n(m.a(x).transpose(1, 2)), a=conv(3, 6), n=bn(6)),
        kept={"n": "channels"},
    ),
    "identity": Trap(
        changed(
            lambda m: _ready(m, running_var=1.0),
            lambda: nn.ReLU(),
            lambda: nn.BatchNorm2d(3, eps=0),
        )
    ),
    "two in a row": Trap(seq(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4))),
    "two in a row, without a conv": Trap(
        seq(nn.ReLU(), nn.BatchNorm2d(3), nn.BatchNorm2d(3)), kept={"2": "activation"}
    ),
    "not affine": Trap(seq(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False))),
    "not affine behind another": Trap(
        seq(nn.Tanh(), nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False)),
        kept={"1": "activation"},
    ),
    "no running statistics": Trap(
        seq(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        kept={"1": "batch-statistics"},
    ),
    "in training": Trap(seq(nn.Conv2d(3, 4, 3), Training(4)), kept={"1": "training"}),
    "not finite": Trap(
        changed(lambda m: _ready(m, running_mean=float("nan")), conv(), bn()),
        kept={"1": "not-finite"},
    ),
    "negative variance": Trap(
        changed(lambda m: _ready(m, running_var=-1.0), conv(), bn()), kept={"1": "not-finite"}
    ),
    "conv called twice, two BatchNorms": Trap(
        net(lambda m, x: m.n(m.a(x)) + m.o(m.a(x)), a=conv(), n=bn(), o=bn()),
        kept={"n": "shared-parameters", "o": "shared-parameters"},
    ),
    "BatchNorm called behind two convs": Trap(two(lambda m, x: m.n(m.a(x)) + m.n(m.b(x)))),
    "BatchNorm called where it can go, and where not": Trap(
        net(lambda m, x: m.n(m.a(x)) + m.n(torch.tanh(m.a(x))), a=conv(), n=bn()),
        kept={"n": "activation"},
    ),
    "encoder called twice": Trap(Siamese),
    "one BatchNorm under two names": Trap(
        lambda: _made(
            net(lambda m, x: m.n1(m.a(x)) + m.n2(m.b(x)), a=conv(), b=conv(), n1=bn(), n2=bn())(),
            _same_norm,
        )
    ),
    "tied weights": Trap(
        changed(_tie, conv(3, 3, padding=1), bn(3), conv(3, 3)), kept={"1": "shared-parameters"}
    ),
    "read twice": Trap(
        net(lambda m, x: m.n(y := m.a(x)) + y, a=conv(), n=bn()), kept={"n": "read-elsewhere"}
    ),
    "returned too": Trap(
        net(lambda m, x: (y := m.a(x), m.n(y)), a=conv(), n=bn()), kept={"n": "model-output"}
    ),
    "only its shape is read": Trap(
        net(lambda m, x: m.n(y := m.a(x)).view(y.shape[0], -1), a=conv(), n=bn())
    ),
    "residual block, in place": Trap(Residual, FEATURES),
    "identity branch beside a conv": Trap(RepVgg, FEATURES, {"identity": "read-elsewhere"}),
    "group norm before": Trap(seq(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.BatchNorm2d(4))),
    "instance norm before": Trap(seq(nn.InstanceNorm2d(3, affine=True), nn.BatchNorm2d(3))),
    "instance norm without weight before": Trap(
        seq(nn.InstanceNorm2d(3), nn.BatchNorm2d(3)), kept={"1": "no-bias"}
    ),
    "layer norm before": Trap(seq(nn.LayerNorm(4), nn.BatchNorm1d(4)), (5, 4)),
    "layer norm of rank 3 before": Trap(
        seq(nn.LayerNorm(4), nn.BatchNorm1d(4)), (2, 4, 4), {"1": "channels"}
    ),
    "rms norm before": Trap(seq(nn.RMSNorm(4), nn.BatchNorm1d(4)), (5, 4), {"1": "no-bias"}),
    "first": Trap(seq(nn.BatchNorm2d(3), nn.ReLU()), kept={"0": "model-input"}),
    "hook on the BatchNorm": Trap(hooked("1", "register_forward_hook"), kept={"1": "hooked"}),
    "backward hook on the BatchNorm": Trap(
        hooked("1", "register_full_backward_hook"), kept={"1": "hooked"}
    ),
    "hook on the conv": Trap(hooked("0", "register_forward_pre_hook"), kept={"1": "hooked"}),
    "backward hook on the conv": Trap(
        hooked("0", "register_full_backward_hook"), kept={"1": "hooked"}
    ),
    "hook on the model": Trap(hooked("", "register_forward_hook")),
    "weight norm": Trap(
        lambda: nn.Sequential(parametrizations.weight_norm(conv()()), bn()()),
        kept={"1": "computed-parameters"},
    ),
    "weight norm by hooks": Trap(
        lambda: nn.Sequential(nn.utils.weight_norm(conv()()), bn()()), kept={"1": "hooked"}
    ),
    "spectral norm": Trap(
        lambda: nn.Sequential(parametrizations.spectral_norm(conv()()), bn()()),
        kept={"1": "computed-parameters"},
    ),
    "function": Trap(
        net(
            lambda m, x: F.batch_norm(m.a(x), m.n.running_mean, m.n.running_var),
            a=conv(),
            n=bn(affine=False),
        ),
        kept={"n": "functional"},
    ),
    "subclass": Trap(seq(nn.Conv2d(3, 4, 3), Renamed(4))),
    "subclass that checks": Trap(seq(nn.Conv2d(3, 4, 3), Checked(4))),
    "subclass with an activation": Trap(seq(nn.Conv2d(3, 4, 3), NormAct(4, nn.ReLU(inplace=True)))),
    "subclass with an activation, before a conv": Trap(
        seq(nn.Tanh(), NormAct(3, nn.ReLU()), nn.Conv2d(3, 4, 3)), kept={"1": "activation"}
    ),
    "subclass with code": Trap(seq(nn.Conv2d(3, 4, 3), NormLeaky(4)), kept={"1": "functional"}),
    "synchronised": Trap(seq(nn.Conv2d(3, 4, 3), nn.SyncBatchNorm(4))),
    "frozen": Trap(seq(nn.Conv2d(3, 4, 3, bias=False), Frozen(4), nn.ReLU(inplace=True))),
    "frozen, and more": Trap(seq(nn.Conv2d(3, 4, 3), FrozenLeaky(4)), kept={"1": "functional"}),
    "standardised weight": Trap(
        seq(Standardised(3, 4, 3), nn.BatchNorm2d(4)), kept={"1": "computed-parameters"}
    ),
    "method changed in a subclass": Trap(
        seq(HalvedInside(3, 4, 3), nn.BatchNorm2d(4)), kept={"1": "functional"}
    ),
    "code that takes a bias that is not there": Trap(without_bias(convolved)),
    "code that calls itself twice": Trap(
        without_bias(lambda m, x: convolved(m, convolved(m, x)[:, :3])),
        kept={"1": "shared-parameters"},
    ),
    "code that takes no bias": Trap(
        without_bias(lambda m, x: F.conv2d(x, m.weight)), kept={"1": "code-depends"}
    ),
    "code that would add a bias apart": Trap(without_bias(added_apart), kept={"1": "code-depends"}),
    "code that would use a bias once more": Trap(
        without_bias(added_again), kept={"1": "code-depends"}
    ),
    "code that adds to its bias": Trap(
        without_bias(lambda m, x: F.conv2d(x, m.weight, None if m.bias is None else m.bias + 1)),
        kept={"1": "code-depends"},
    ),
    "subclass that pads": Trap(seq(SamePadded(3, 4, 3), nn.BatchNorm2d(4))),
    "layer in a plain list": Trap(Listed, kept={"bn": "shared-parameters"}),
    "numbers read besides": Trap(Reads, kept={"bn": "shared-parameters"}),
    "written in place behind": Trap(Written, kept={"bn": "read-elsewhere"}),
    "never called": Trap(Auxiliary, kept={"head.1": "not-called"}),
}


def _made(model: Any, change: Callable[[Any], None]) -> Any:
    change(model)
    return model
