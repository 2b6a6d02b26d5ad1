"""Small torch models whose code, hooks, wrappers or dtypes make folding go wrong elsewhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch_traps import Trap, bn, conv, net

FRAMES = (2, 5, 4)


def pair(code: Any, **options: Any) -> Callable[[], Any]:
    """A convolution ``a`` and a BatchNorm ``n``, called by some code."""
    return net(code, a=conv(**options), n=bn())


# Layers


class Frozen(nn.Module):
    """As in transformers' DETR: eps is a number in the code."""

    eps_in_code = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(channels))

    def forward(self, x: Any) -> Any:
        scale = (self.weight * (self.running_var + self.eps_in_code).rsqrt()).reshape(1, -1, 1, 1)
        shift = (self.bias).reshape(1, -1, 1, 1) - self.running_mean.reshape(1, -1, 1, 1) * scale
        return x * scale + shift


class FrozenOtherwise(Frozen):
    """The same with an eps that nothing but the code tells."""

    eps_in_code = 1e-3


class Super(nn.BatchNorm2d):
    """Calls the forward of PyTorch's class, and nothing else."""

    def forward(self, x: Any) -> Any:
        return super().forward(x)


class Doubled(nn.BatchNorm2d):
    def forward(self, x: Any) -> Any:
        return super().forward(x) * 2


class DoubledOutside(nn.BatchNorm2d):
    def __call__(self, x: Any) -> Any:
        return super().__call__(x) * 2


class Adding(nn.BatchNorm2d):
    """Takes the other branch of a residual block."""

    def forward(self, x: Any, other: Any = None) -> Any:
        x = super().forward(x)
        return x if other is None else x + other


class Channels(nn.Module):
    """Moves its channels to where BatchNorm has them, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(6)

    def forward(self, x: Any) -> Any:
        return self.bn(x.transpose(1, 2)).transpose(1, 2)


# Blocks


class Fused(nn.Module):
    """As Ultralytics writes its blocks, with the method that leaves the BatchNorm out."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(i, o, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(o, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU()

    def forward(self, x: Any) -> Any:
        return self.act(self.bn(self.conv(x)))

    def forward_fuse(self, x: Any) -> Any:
        return self.act(self.conv(x))


class Lists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x: Any) -> Any:
        for layer, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        return x


class OneConv(Lists):
    """Every BatchNorm behind the same convolution."""

    def forward(self, x: Any) -> Any:
        for norm in self.norms:
            x = F.relu(norm(self.convs[0](x)))
        return x


class ByName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4)})

    def forward(self, x: Any) -> Any:
        return self.parts["norm"](self.parts["conv"](x))


class Alias(nn.Module):
    """Has a buffer of its BatchNorm under a name of its own, and reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.register_buffer("mean", self.n.running_mean)

    def forward(self, x: Any) -> Any:
        return self.n(self.a(x)) + self.mean.sum()


class Counting(nn.Module):
    """Changes a buffer in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return self.n(self.a(x))


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, dtype=torch.complex128)
        self.n = nn.BatchNorm2d(4)
        self.b, self.o = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Any) -> Any:
        x = torch.tanh(self.a(torch.complex(x, x)).real)
        return self.o(self.b(torch.tanh(self.n(x))))


class Sized(nn.Module):
    """Looks at sizes, which symbolic tracing cannot: torch.export traces it, with inputs."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.a, self.n = nn.Conv2d(3, 4, 3), norm

    def forward(self, x: Any) -> Any:
        if x.shape[2] % 2:
            x = F.pad(x, (0, 0, 0, 1))
        return self.n(self.a(x))


def shared(*build: Any) -> Callable[[], Any]:
    """A Sequential in which a position holds the same layer as another one."""

    def make() -> Any:
        layers = [each() for each in build if callable(each)]
        held = iter(layers)
        made: list[Any] = []
        for each in build:
            made.append(next(held) if callable(each) else made[each])
        return nn.Sequential(*made)

    return make


def wrapped(change: Callable[[Any], Any]) -> Callable[[], Any]:
    """Something made of a convolution and a BatchNorm in a Sequential."""
    return lambda: change(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))


def with_first(change: Callable[[Any], Any]) -> Callable[[], Any]:
    return lambda: nn.Sequential(change(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4))


def scripted(model: Any) -> Any:
    return nn.Sequential(OrderedDict(inner=torch.jit.script(model.eval()), act=nn.ReLU()))


CODE_TRAPS: dict[str, Trap] = {
    "asks for the class": Trap(
        pair(lambda m, x: m.n(m.a(x)) if isinstance(m.n, nn.BatchNorm2d) else m.a(x) * 2),
        kept={"n": "code-depends"},
    ),
    "asks for an attribute": Trap(
        pair(lambda m, x: m.n(m.a(x)) + (1 if hasattr(m.n, "eps") else 0)),
        kept={"n": "code-depends"},
    ),
    "reads the number of features": Trap(
        pair(lambda m, x: m.n(m.a(x)).reshape(x.shape[0], m.n.num_features, -1)),
        kept={"n": "code-depends"},
    ),
    "reads the dtype of a weight": Trap(
        pair(lambda m, x: m.n(m.a(x.to(m.n.weight.dtype)))), kept={"n": "code-depends"}
    ),
    "asks for a bias": Trap(
        pair(lambda m, x: m.n(m.a(x)) * (2 if m.a.bias is None else 3), bias=False),
        kept={"n": "code-depends"},
    ),
    "asks in one block of two": Trap(
        net(
            lambda m, x: m.b(m.a(x)) * (2 if m.a.a.bias is None else 3),
            a=pair(lambda m, x: m.n(m.a(x)), bias=False),
            b=lambda: Fused(4, 4),
        ),
        kept={"a.n": "code-depends"},
    ),
    "reads its weight": Trap(
        pair(lambda m, x: m.n(m.a(x)) + m.n.weight.sum()), kept={"n": "shared-parameters"}
    ),
    "reads the weight of the conv": Trap(
        pair(lambda m, x: m.n(m.a(x)) + m.a.weight.sum()), kept={"n": "shared-parameters"}
    ),
    "reads the dtype of the conv": Trap(pair(lambda m, x: m.n(m.a(x.to(m.a.weight.dtype))))),
    "function with the numbers of a module, beside the module": Trap(
        net(
            lambda m, x: F.batch_norm(m.a(x), m.n.running_mean, m.n.running_var) + m.n(m.b(x)),
            a=conv(),
            b=conv(),
            n=bn(),
        ),
        kept={"n": "functional"},
    ),
    "called by keyword": Trap(pair(lambda m, x: m.n(input=m.a(input=x)))),
    "checkpointed": Trap(
        pair(lambda m, x: checkpoint(lambda y: m.n(m.a(y)), x, use_reentrant=False))
    ),
    "in a list within a mapping": Trap(pair(lambda m, x: {"out": [m.n(m.a(x)), x]}["out"][0])),
    "outputs in a mapping": Trap(pair(lambda m, x: (m.n(m.a(x)), {"in": [x, None, 3]}["in"][0]))),
    "blocks like Ultralytics'": Trap(lambda: nn.Sequential(Fused(3, 4), Fused(4, 4))),
    "lists of modules": Trap(Lists),
    "lists of modules, one convolution": Trap(
        OneConv, kept={f"norms.{i}": "shared-parameters" for i in range(3)}
    ),
    "modules by name": Trap(ByName),
    "one BatchNorm behind two convolutions": Trap(
        shared(conv(3, 4), bn(), conv(4, 4), 1), shape=(2, 3, 9, 9)
    ),
    "one pair twice": Trap(shared(conv(3, 3, padding=1), lambda: nn.BatchNorm2d(3), 0, 1)),
    "a buffer under another name": Trap(Alias),
    "a buffer that counts calls": Trap(Counting),
    "a frozen class of its own": Trap(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Frozen(4))),
    "a frozen class with an eps of its own": Trap(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), FrozenOtherwise(4)), kept={"1": "functional"}
    ),
    "a subclass that calls its base": Trap(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Super(4))),
    "a subclass that does more": Trap(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Doubled(4)), kept={"1": "functional"}
    ),
    "a subclass that is called otherwise": Trap(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), DoubledOutside(4)), kept={"1": "functional"}
    ),
    "a subclass that takes two values": Trap(
        net(lambda m, x: m.n(m.a(x), m.b(x)), a=conv(), b=conv(), n=lambda: Adding(4)),
        kept={"n": "code-depends"},
    ),
    "a subclass that could take two values": Trap(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Adding(4))
    ),
    "channels moved and back": Trap(
        lambda: nn.Sequential(nn.Linear(4, 6), Channels(), nn.ReLU()), FRAMES
    ),
    "sizes in the code": Trap(lambda: Sized(nn.BatchNorm2d(4))),
    "sizes in the code, frozen": Trap(lambda: Sized(Frozen(4))),
    "complex, but for the layer behind": Trap(Complex, kept={"n": "activation"}),
    "spectral norm by hooks": Trap(with_first(nn.utils.spectral_norm), kept={"1": "hooked"}),
    "pruned": Trap(
        with_first(lambda layer: prune.l1_unstructured(layer, "weight", 0.3)),
        kept={"1": "hooked"},
    ),
    "parametrized BatchNorm": Trap(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), parametrizations.weight_norm(nn.BatchNorm2d(4))),
        kept={"1": "functional"},
    ),
    "DataParallel": Trap(wrapped(nn.DataParallel)),
    "AveragedModel": Trap(wrapped(AveragedModel)),
    "GraphModule": Trap(wrapped(torch.fx.symbolic_trace)),
    "a scripted part": Trap(wrapped(scripted), kept={"inner.1": "no-order"}),
    "a compiled part": Trap(
        wrapped(lambda model: nn.Sequential(torch.compile(model, backend="eager"), nn.ReLU())),
        kept={"0._orig_mod.1": "no-order"},
    ),
    "a BatchNorm alone": Trap(lambda: nn.BatchNorm2d(3), kept={"": "model-input"}),
    "no BatchNorm": Trap(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())),
}


def by_data(module: Any, x: Any) -> Any:
    x = module.a(x)
    return module.n(x) if x.sum() > 0 else x


def _own_forward(model: Any) -> Any:
    model.forward = lambda x: model[1](model[0](x))
    return model


def by_batch(module: Any, x: Any) -> Any:
    return module.n(module.a(x)) if x.shape[0] > 1 else module.a(x)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "asks its data": (pair(by_data), "only be run, not traced"),
    "asks for the batch size": (pair(by_batch), "the folded model differs"),
    "on the meta device": (wrapped(lambda model: model.to("meta")), "meta device"),
    "in part on the meta device": (with_first(lambda layer: layer.to("meta")), "meta device"),
    "lazy": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d()), "lazy layers"),
    "compiled": (wrapped(torch.compile), "_orig_mod"),
    "scripted": (wrapped(lambda model: torch.jit.script(model.eval())), "ScriptModule"),
    "traced": (
        wrapped(lambda model: torch.jit.trace(model.eval(), torch.randn(2, 3, 8, 8))),
        "ScriptModule",
    ),
    "with a forward of its own": (wrapped(_own_forward), "not that of its class"),
}
