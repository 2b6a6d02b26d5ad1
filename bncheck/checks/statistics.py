"""BN2xx: running statistics that cannot be right, or that nothing ever updated."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bncheck.checks.defaults import (
    eps_evidence,
    eps_or_default,
    momentum_evidence,
    momentum_or_default,
)
from bncheck.checks.deviation import SMALLEST_NORMAL, dead_below
from bncheck.checks.memory import once_per_model
from bncheck.checks.values import non_finite
from bncheck.checks.words import channels, where
from bncheck.facts import UnknownFact
from bncheck.finding import Level, Observation
from bncheck.model import Model, NormLayer
from bncheck.tensor import Tensor

FROZEN_SLACK = 1e-3  # FrozenBatchNorm is made with a variance of 1 - eps; 1e-3 is the largest eps
WEIGHT_STARTS = (1.0, 0.0)  # 0: transformers, and the last weight of residual branches
INIT_SPREAD = 0.1  # around them: five standard deviations of the usual random start


def non_finite_statistics(layer: NormLayer) -> Iterator[Observation]:
    """BN201: NaN or infinity in running_mean or running_var."""
    yield from non_finite({"running_mean": layer.running_mean, "running_var": layer.running_var})


def negative_variance(layer: NormLayer) -> Iterator[Observation]:
    """BN202: a running_var below zero."""
    var = layer.running_var
    if var is None or var.minimum >= 0:
        return
    negative = var.where(lambda value: -math.inf < value < 0)
    if negative:
        lowest = min(var.values[i] for i in negative)
        yield Observation(
            f"running_var is {'' if len(negative) == 1 else 'down to '}{lowest:.4g} in "
            f"{where(negative, var.numel)}: {_square_root(lowest + eps_or_default(layer))}.",
            {**channels(negative, var.numel), "min": lowest},
        )


def _square_root(value: float) -> str:
    if value <= 0:
        return "sqrt(var + eps) is NaN there, and so is the output"
    return "no variance can be, and only eps keeps the output finite"


def statistics_never_updated(layer: NormLayer) -> Iterator[Observation]:
    """BN203: initial running statistics in a layer that counted no batch."""
    initial = _initial_variance(layer)
    if initial is None or _counter(layer):
        return
    level, verdict = _why_never_updated(layer, initial)
    yield Observation(
        f"running_mean is 0 and running_var {initial:.6g} in every channel{verdict}",
        {"running_mean": 0.0, "running_var": initial, "num_batches_tracked": _counter(layer)},
        level,
    )


def _why_never_updated(layer: NormLayer, variance: float) -> tuple[Level, str]:
    """An error only where a counter stands at 0 although weight or bias were trained."""
    if _affine_is_untouched(layer):
        return Level.INFO, ", weight and bias are as at the start too: an untrained layer."
    if layer.kind == "frozen-batch" or variance != 1:
        return Level.INFO, ": a frozen BatchNorm, which carries all in weight and bias."
    if _counter(layer) is None:
        return Level.INFO, ", as at the start: never updated, or frozen on purpose."
    return Level.ERROR, (
        ", as at the start, though weight or bias are trained: no batch ever updated them, so "
        "inference does not normalize."
    )


def _affine_is_untouched(layer: NormLayer) -> bool:
    """Whether bias is exactly 0, as hardly any training leaves it, and weight as layers start."""
    weight, bias = layer.weight, layer.bias
    if bias is not None and not bias.all_equal(0):
        return False
    return weight is None or any(_is_near(weight, start) for start in WEIGHT_STARTS)


def _is_near(tensor: Tensor, start: float) -> bool:
    return start - INIT_SPREAD <= tensor.minimum and tensor.maximum <= start + INIT_SPREAD


def counted_but_not_updated(layer: NormLayer) -> Iterator[Observation]:
    """BN204: initial running statistics in a layer that did count batches."""
    counter = layer.counter
    if counter and _initial_variance(layer) == 1:
        why = " momentum is 0." if layer.get(NormLayer.momentum, None) == 0 else ""
        yield Observation(
            f"Counted {counter} batches, yet running_mean is 0 and running_var 1 in every channel: "
            f"inference does not normalize.{why}",
            {"num_batches_tracked": counter, "running_mean": 0.0, "running_var": 1.0},
        )


def dead_channels(
    layer: NormLayer, model: Model, *, threshold: float = 1e-3
) -> Iterator[Observation]:
    """BN207: channels whose variance is below ``threshold`` times eps."""
    var = layer.running_var
    limit = dead_below(eps_or_default(layer), threshold)
    if var is None or var.minimum >= limit:
        return
    dead = var.where(lambda value: 0 <= value < limit)
    if len(dead) == var.numel and _nothing_varies(model):
        yield _never_loaded(layer, var, limit)
    elif dead:
        yield Observation(
            f"running_var is below {limit:.3g} in {where(dead, var.numel)}: the input hardly "
            f"varies there, the output is a constant.{_constant_since(layer, var)}",
            {
                **channels(dead, var.numel),
                **eps_evidence(layer),
                **_age(layer, var),
            },
        )


@once_per_model
def _nothing_varies(model: Model) -> bool:
    """Whether of two BatchNorms or more none has a channel that is not dead."""
    layers = model.batch_norms
    try:
        return len(layers) > 1 and all(map(_is_dead, layers))
    except UnknownFact:
        return False


def _never_loaded(layer: NormLayer, var: Tensor, limit: float) -> Observation:
    eps = eps_or_default(layer)
    size = f"below {limit:.3g}" if var.maximum else "0"
    gain = f"multiplies by {eps**-0.5:.3g}" if eps > 0 else "divides by 0"
    return Observation(
        f"running_var is {size} in every channel, here and in all other BatchNorms: no data leaves "
        f"that. The layer {gain} and normalizes nothing.",
        {**channels(range(var.numel), var.numel), **eps_evidence(layer)},
        Level.ERROR,
        "Load the statistics of the trained model, or estimate them on training data.",
    )


def _is_dead(layer: NormLayer) -> bool:
    var = layer.running_var
    return var is not None and var.maximum < dead_below(eps_or_default(layer))


def _counter(layer: NormLayer) -> int | None:
    return layer.counter if layer.knows(NormLayer.num_batches_tracked) else None


def _initial_variance(layer: NormLayer) -> float | None:
    """The variance in all channels, where mean and variance are as a layer starts with them."""
    mean, var = layer.running_mean, layer.running_var
    if mean is None or var is None or not var.numel:
        return None
    constant = var.minimum == var.maximum and 1 - FROZEN_SLACK <= var.minimum <= 1
    return var.minimum if constant and mean.all_equal(0) else None


def _constant_since(layer: NormLayer, var: Tensor) -> str:
    age = _age(layer, var)
    if not age:
        return ""
    return f" A denormal value proves a constant input for about {age['batches']} batches or more."


def _age(layer: NormLayer, var: Tensor) -> dict[str, object]:
    """How long the deadest channel has been constant, where a denormal variance proves it.

    A constant input multiplies the variance by 1 - momentum at each batch: from 1 it takes
    ln(var) / ln(1 - momentum) batches, until float32 rounds no further down.
    """
    momentum = momentum_or_default(layer)
    denormal = [value for value in var.values if 0 < value < SMALLEST_NORMAL]
    if var.dtype != "float32" or not denormal or momentum is None or not 0 < momentum < 1:
        return {}
    batches = math.log(min(denormal)) / math.log1p(-momentum)
    return {"batches": int(round(batches, -1)), **momentum_evidence(layer)}
