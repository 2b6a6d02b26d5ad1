"""BN2xx: statistics that may be right, and make a layer sensitive to eps, rounding or noise."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

from bncheck.checks.defaults import eps_evidence, eps_or_default
from bncheck.checks.deviation import dead_below, largest_size, live, smallest_deviation
from bncheck.checks.words import channels, where
from bncheck.finding import Observation
from bncheck.model import NormLayer
from bncheck.tensor import Tensor

Sizes = dict[int, float]  # by channel


def eps_dominated(
    layer: NormLayer, *, ratio: float = 0.1, share: float = 0.05
) -> Iterator[Observation]:
    """BN208: eps above ``ratio`` times running_var in over ``share`` of the live channels."""
    var, eps = layer.running_var, layer.eps
    if var is None or eps is None or not ratio * var.minimum < eps:
        return
    alive = [index for index, _, _ in live(layer, var, eps)]
    small = [index for index in alive if ratio * var.values[index] < eps]
    if small and len(small) > share * len(alive):
        least = min(var.values[index] for index in small)
        yield Observation(
            f"eps ({eps:.4g}) is over {ratio:.4g} times running_var in "
            f"{where(small, var.numel)}, up to {eps / least:.3g} times: it sets their scale, so "
            "that another eps gives another output.",
            {**channels(small, var.numel), "live": len(alive), "eps": eps, "min": least},
        )


def gain_outlier(
    layer: NormLayer, *, gain: float = 1e3, ratio: float = 1e3
) -> Iterator[Observation]:
    """BN213: a weight / sqrt(var + eps) above ``gain``, or ``ratio`` times its layer's median."""
    weight, var, eps = layer.weight, layer.running_var, eps_or_default(layer)
    if var is None or not var.numel or _is_even(weight, var, eps, gain, ratio):
        return
    gains = {index: abs(scale) / deviation for index, scale, deviation in live(layer, var, eps)}
    typical = _median(gains)
    large = [i for i, each in gains.items() if each > gain or each > ratio * typical]
    if large:
        worst = max(large, key=gains.__getitem__)
        yield Observation(
            f"weight / sqrt(var + eps) is {gains[worst]:.3g} in channel {worst} of {var.numel}, "
            f"{gains[worst] / typical:.3g} times the layer's median: it amplifies rounding, and "
            "quantization with one scale for the layer loses the other channels.",
            {
                **channels(large, var.numel),
                "max": gains[worst],
                "median": typical,
                **eps_evidence(layer),
            },
        )


def _is_even(weight: Tensor | None, var: Tensor, eps: float, gain: float, ratio: float) -> bool:
    """Whether extremes prove that no gain is large, without a look at each channel.

    No gain is above (largest weight) / (smallest deviation). Their median is not below
    t / (largest deviation) where at least half of the weights are not below t.
    """
    smallest = smallest_deviation(var, eps)
    largest = largest_size(weight, 1.0)
    if not (smallest > 0 and ratio > 0 and largest <= gain * smallest):
        return False
    if var.minimum < dead_below(eps):
        return False
    enough = largest * sqrt(var.maximum + eps) / (ratio * smallest)
    return enough <= 1 if weight is None else 2 * _at_least(enough, weight) >= weight.numel


def _at_least(limit: float, tensor: Tensor) -> int:
    return sum(map(limit.__le__, tensor.values))


def _median(sizes: Sizes) -> float:
    """Of two in the middle the larger; 0 of none."""
    return sorted(sizes.values())[len(sizes) // 2] if sizes else 0.0


def mean_dominates(layer: NormLayer, *, limit: float = 1e2) -> Iterator[Observation]:
    """BN214: a running_mean of over ``limit`` times sqrt(var + eps)."""
    mean, var, eps = layer.running_mean, layer.running_var, eps_or_default(layer)
    if mean is None or var is None or largest_size(mean) <= limit * smallest_deviation(var, eps):
        return
    sizes = dict(enumerate(map(abs, mean.values)))
    alive = ((i, deviation) for i, _, deviation in live(layer, var, eps) if i in sizes)
    offsets = {i: sizes[i] / deviation for i, deviation in alive}
    large = [i for i, each in offsets.items() if each > limit]
    if large:
        worst = max(large, key=offsets.__getitem__)
        yield Observation(
            f"running_mean is {offsets[worst]:.3g} standard deviations in channel {worst} of "
            f"{var.numel}: what varies there is lost among the digits of the mean in float16, "
            "bfloat16 or int8.",
            {**channels(large, var.numel), "max": offsets[worst], **eps_evidence(layer)},
        )
