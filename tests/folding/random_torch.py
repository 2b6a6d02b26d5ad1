"""Random small modules of the layers that folding knows, which all keep height and width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

CHANNELS = (2, 4)
SHAPE = (2, 2, 5, 5)
LAYERS = ("conv", "grouped", "transposed", "norm", "norm", "norm", "again")
PLAIN = ("relu", "tanh", "max", "mean", "dropout", "double", "swap")
JOINS = ("add", "subtract", "join", "half", "gate")


@dataclass(frozen=True)
class Step:
    """What is done to which earlier values, by which layer."""

    kind: str
    given: tuple[int, ...]
    layer: str = ""


class Drawn(nn.Module):
    """A module that carries out steps; it returns its last values."""

    def __init__(self, layers: dict[str, Any], steps: list[Step], outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.steps = tuple(steps)
        self.outputs = outputs

    def forward(self, x: Any) -> Any:
        values = [x]
        for step in self.steps:
            given = [values[i] for i in step.given]
            values.append(self.layers[step.layer](*given) if step.layer else done(step.kind, given))
        return tuple(values[-self.outputs :])


def done(kind: str, given: list[Any]) -> Any:
    """An operation without parameters."""
    first, last = given[0], given[-1]
    match kind:
        case "relu":
            return torch.relu(first)
        case "tanh":
            return torch.tanh(first)
        case "double":
            return first * 2
        case "swap":
            return first.transpose(2, 3)
        case "add":
            return first + last
        case "subtract":
            return first - last
        case "gate":
            return first * torch.sigmoid(last)
        case "join":
            return torch.cat([first, last], 1)
    return first[:, : first.shape[1] // 2]


def layer(draw: st.DrawFn, kind: str, i: int) -> tuple[Any, int]:
    """A layer for some channels, and how many it gives."""
    o = draw(st.sampled_from(CHANNELS))
    bias = draw(st.booleans())
    match kind:
        case "conv":
            k = draw(st.sampled_from((1, 3)))
            mode = draw(st.sampled_from(("zeros", "circular")))
            return nn.Conv2d(i, o, k, padding=k // 2, bias=bias, padding_mode=mode), o
        case "grouped":
            return nn.Conv2d(i, 2 * i, 3, padding=1, groups=i, bias=bias), 2 * i
        case "transposed":
            groups = draw(st.sampled_from((1, 2)))
            return nn.ConvTranspose2d(i, o, 3, padding=1, groups=groups, bias=bias), o
        case "max":
            return nn.MaxPool2d(3, 1, 1), i
        case "mean":
            return nn.AvgPool2d(3, 1, 1, count_include_pad=bias), i
        case "dropout":
            return nn.Dropout(0.5), i
    return nn.BatchNorm2d(i, affine=draw(st.integers(0, 4)) > 0), i


@st.composite
def modules(draw: st.DrawFn) -> Drawn:
    """A module of up to a dozen steps, each mostly on what was made last."""
    torch.manual_seed(0)
    layers: dict[str, Any] = {}
    steps: list[Step] = []
    channels = [SHAPE[1]]
    takes: dict[str, tuple[int, int]] = {}  # channels in and out of each layer
    for number in range(draw(st.integers(2, 12))):
        at = draw(st.sampled_from((len(channels) - 1,) * 4 + (*range(len(channels)),)))
        kind = draw(st.sampled_from(LAYERS * 2 + PLAIN + JOINS))
        fitting = [name for name, (i, _) in takes.items() if i == channels[at]]
        alike = [j for j, held in enumerate(channels) if held == channels[at]]
        if kind == "again" and not fitting:
            kind = "conv"
        if channels[at] > 16 or (kind == "half" and channels[at] < 4):
            kind = "conv"
        if kind == "again":
            name = draw(st.sampled_from(fitting))
            steps.append(Step(kind, (at,), name))
            channels.append(takes[name][1])
        elif kind in (*LAYERS, "max", "mean", "dropout"):
            name = f"{kind}{number}"
            layers[name], made = layer(draw, kind, channels[at])
            takes[name] = channels[at], made
            steps.append(Step(kind, (at,), name))
            channels.append(made)
        elif kind in JOINS:
            other = at if kind == "half" else draw(st.sampled_from(alike))
            steps.append(Step(kind, (at, other)))
            factor = {"join": 2.0, "half": 0.5}.get(kind, 1.0)
            channels.append(int(channels[at] * factor))
        else:
            steps.append(Step(kind, (at,)))
            channels.append(channels[at])
    return Drawn(layers, steps, draw(st.integers(1, min(2, len(steps)))))
