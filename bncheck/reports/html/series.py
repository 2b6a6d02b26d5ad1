"""The numbers that are drawn of a layer, and the thresholds by which rules judge them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

from bncheck.configuration.settings import Plan
from bncheck.facts import Fact, UnknownFact
from bncheck.model import NormLayer
from bncheck.tensor import Tensor

DEFAULT_EPS = 1e-5  # torch.nn.BatchNorm2d
LARGEST = 2**17  # elements of a tensor that is drawn
FP16_MAX = 65504.0
HALF = ("float16", "bfloat16")
DEAD, NEGLIGIBLE = 1e-3, 1e-6  # times eps, and times the largest weight: as the rules have it
Values = Sequence[float]


class Quantity(NamedTuple):
    """What a chart is about; ``nothing`` is what a logarithmic axis has no place for."""

    key: str
    title: str
    logarithmic: bool
    nothing: str = ""


MEAN = Quantity("mean", "running mean / σ", False)  # noqa: RUF001
VARIANCE = Quantity("variance", "running variance", True, "≤ 0")
GAIN = Quantity("gain", "|γ| / σ", True, "0")  # noqa: RUF001
WEIGHT = Quantity("weight", "weight", False)
BIAS = Quantity("bias", "bias", False)
QUANTITIES = (MEAN, VARIANCE, GAIN, WEIGHT, BIAS)


class Limit(NamedTuple):
    """A threshold of a rule; ``below`` tells the side that it is about.

    ``alone``: every value beyond it is found, not only a certain share of them.
    """

    rule: str
    value: float
    below: bool = False
    alone: bool = True

    def is_beyond(self, value: float) -> bool:
        """Whether the rule is about a value."""
        return self.alone and (value < self.value if self.below else value > self.value)


class Series(NamedTuple):
    """The values of a quantity in one layer, and what judges them.

    ``quiet`` are the channels that let nothing through, of which the rules about means and gains
    say nothing.
    """

    quantity: Quantity
    values: Values
    limits: tuple[Limit, ...] = ()
    quiet: frozenset[int] = frozenset()

    def is_beyond(self, channel: int) -> bool:
        """Whether a rule has something to say of a channel."""
        value = self.values[channel]
        return channel not in self.quiet and any(each.is_beyond(value) for each in self.limits)


def series(layer: NormLayer, plan: Plan) -> list[Series]:
    """Mean, variance and gain where there are running statistics, else weight and bias."""
    var, weight = _values(layer, NormLayer.running_var), _values(layer, NormLayer.weight)
    drawn = (
        _scale_and_shift(weight, _values(layer, NormLayer.bias))
        if var is None
        else _statistics(layer, var, weight, plan)
    )
    return [each for each in drawn if each.values]


def _scale_and_shift(weight: Values | None, bias: Values | None) -> Iterator[Series]:
    yield Series(WEIGHT, weight or ())
    yield Series(BIAS, bias or ())


def _statistics(
    layer: NormLayer, var: Values, weight: Values | None, plan: Plan
) -> Iterator[Series]:
    known = layer.get(NormLayer.eps, None)
    eps = DEFAULT_EPS if known is None else known
    deviations = [math.sqrt(v + eps) if v + eps > 0 else math.nan for v in var]
    quiet = frozenset(_quiet(var, weight, eps))
    mean = _values(layer, NormLayer.running_mean) or ()
    offsets = [m / d for m, d in zip(mean, deviations, strict=False)]
    yield Series(MEAN, offsets, _mean(plan), quiet)
    yield Series(VARIANCE, var, tuple(_variance(layer, eps, plan)))
    if weight is not None or (layer.knows(NormLayer.weight) and layer.weight is None):
        sizes = repeat(1.0) if weight is None else map(abs, weight)
        gains = [size / d for size, d in zip(sizes, deviations, strict=False)]
        yield Series(GAIN, gains, _gain(plan), quiet)


def _quiet(var: Values, weight: Values | None, eps: float) -> Iterator[int]:
    """The channels that hardly vary, or whose weight is next to nothing."""
    yield from (i for i, value in enumerate(var) if value < DEAD * eps)
    if weight:
        off = NEGLIGIBLE * max(map(abs, weight))
        yield from (i for i, value in enumerate(weight) if abs(value) <= off)


def _values(layer: NormLayer, fact: Fact[Tensor | None]) -> Values | None:
    nothing: Tensor | None = None
    tensor = layer.get(fact, nothing)
    if tensor is None or tensor.numel > LARGEST:
        return None
    try:
        return tensor.read()
    except UnknownFact:
        return None


def _mean(plan: Plan) -> tuple[Limit, ...]:
    limit = option(plan, "BN214", "limit")
    return () if limit is None else (Limit("BN214", limit), Limit("BN214", -limit, below=True))


def _gain(plan: Plan) -> tuple[Limit, ...]:
    limit = option(plan, "BN213", "gain")
    return () if limit is None else (Limit("BN213", limit),)


def _variance(layer: NormLayer, eps: float, plan: Plan) -> Iterator[Limit]:
    dead, ratio = option(plan, "BN207", "threshold"), option(plan, "BN208", "ratio")
    if dead and eps > 0:
        yield Limit("BN207", dead * eps, below=True)
    if ratio and eps > 0:
        yield Limit("BN208", eps / ratio, below=True, alone=False)
    var = layer.running_var
    if var is not None and var.dtype in HALF and any(r.id == "BN210" for r in plan.rules):
        yield Limit("BN210", FP16_MAX)


def option(plan: Plan, rule: str, name: str) -> float | None:
    """The value of a rule's option as the plan has it; None where the rule does not run."""
    found = next((each for each in plan.rules if each.id == rule), None)
    if found is None or name not in found.options:
        return None
    asked = plan.policy.options.get(rule, {})
    value = asked.get(name, found.options[name].default)
    return float(value) if isinstance(value, int | float) else None
