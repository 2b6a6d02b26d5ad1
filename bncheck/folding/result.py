"""What a fold did, and how well: the same for every format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bncheck.folding.plan import FoldPlan
from bncheck.folding.reasons import Obstacle
from bncheck.graph import Node, NodeKind
from bncheck.model import Model
from bncheck.tensor import Tensor

SMALLEST = 1e-300


@dataclass(frozen=True, slots=True)
class Folded:
    """A BatchNorm that went, and the names of the operators that took it in."""

    layer: str
    into: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A BatchNorm that stays: ``reason`` is one of ``bncheck.folding.reasons.Reason``."""

    layer: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far one value of the folded model is from the original's, over all runs.

    ``max_abs`` is the largest absolute error, ``bound`` what was allowed; ``rms`` is the root mean
    square of the original's values. ``exercised`` is False where it never varied: no proof.
    """

    name: str
    max_abs: float
    bound: float
    rms: float
    exercised: bool = True

    @property
    def within(self) -> bool:
        """Whether the error is allowed; NaN is not."""
        return self.max_abs <= self.bound


@dataclass(frozen=True, slots=True)
class Verification:
    """Original and folded side by side: on ``runs`` inputs, for each output and folded site."""

    runs: int
    engine: str
    outputs: tuple[Deviation, ...]
    sites: tuple[Deviation, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every output and every site is within its bound."""
        return all(each.within for each in (*self.outputs, *self.sites))

    @property
    def failure(self) -> str:
        """Where the folded model is farthest from what is allowed; empty where it passed."""
        failed = [each for each in (*self.outputs, *self.sites) if not each.within]
        if not failed:
            return ""
        worst = max(failed, key=lambda each: each.max_abs / (each.bound or SMALLEST))
        return (
            f"the folded model differs by {worst.max_abs:.3g} at {worst.name}, "
            f"where {worst.bound:.3g} is allowed"
        )

    @property
    def max_abs_error(self) -> float:
        """The largest absolute error of any output."""
        return max((each.max_abs for each in self.outputs), default=math.nan)


@dataclass(frozen=True, slots=True)
class FoldResult:
    """A fold. ``model`` is the folded object, None where a file was written.

    ``saved`` has what went: nodes, parameters, and bytes where a file was written.
    """

    folded: tuple[Folded, ...]
    kept: tuple[Kept, ...]
    verification: Verification | None = None
    model: Any = None
    saved: Mapping[str, int] = field(default_factory=dict)

    @property
    def max_abs_error(self) -> float | None:
        """The largest absolute error of any output; None where nothing was verified."""
        return self.verification.max_abs_error if self.verification else None


def folded_layers(model: Model, plan: FoldPlan) -> tuple[Folded, ...]:
    """The BatchNorms of a plan that go, each once, however often it is called."""
    names = layer_names(model)
    into: dict[str, dict[str, None]] = {}
    for fold in plan.batch_norms:
        takers = into.setdefault(names.get(fold.node, fold.node.label), {})
        takers.update(dict.fromkeys(each.label for each in fold.into))
    return tuple(Folded(layer, tuple(takers)) for layer, takers in into.items())


def kept_layers(model: Model, kept: Mapping[Node, Obstacle]) -> tuple[Kept, ...]:
    """The BatchNorms of a plan that stay, and why."""
    names = layer_names(model)
    return tuple(
        Kept(names.get(node, node.label), why.reason.value, str(why)) for node, why in kept.items()
    )


def layer_names(model: Model) -> Mapping[Node, str]:
    """The name of the layer that each normalizing node is a call of."""
    return {call: layer.name for layer in model.layers for call in _calls(layer)}


def _calls(layer: object) -> tuple[Node, ...]:
    calls = getattr(layer, "facts", {}).get("calls", ())
    return calls if isinstance(calls, tuple) else ()


def parameters_saved(plan: FoldPlan) -> int:
    """Elements of the BatchNorms that go."""
    held = (
        tensor.numel
        for fold in plan.folds
        if fold.node.kind is NodeKind.BATCH_NORM
        for tensor in fold.node.parameters.values()
        if isinstance(tensor, Tensor)
    )
    return sum(held)
