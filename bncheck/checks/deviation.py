"""The standard deviation by which a layer divides, and the channels where it means something."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat

from bncheck.model import NormLayer
from bncheck.tensor import Tensor

DEAD = 1e-3  # times eps: the variance of a channel that hardly varies, as in BN207
SMALLEST_NORMAL = 2.0**-126  # float32; below it, precision fades until 2**-149
NEGLIGIBLE = 1e-6  # times the largest: a weight that has decayed to nothing


def dead_below(eps: float, threshold: float = DEAD) -> float:
    """The variance below which a channel's output is all but constant."""
    return max(threshold * eps, SMALLEST_NORMAL)


def smallest_deviation(var: Tensor, eps: float) -> float:
    """sqrt(var + eps) of the live channel that varies least, or less."""
    return math.sqrt(max(max(var.minimum, dead_below(eps)) + eps, 0.0))


def largest_size(tensor: Tensor | None, absent: float = 0.0) -> float:
    """The largest absolute value of a tensor, or what stands for one that is not there."""
    return absent if tensor is None else max(-tensor.minimum, tensor.maximum)


def live(layer: NormLayer, var: Tensor, eps: float) -> Iterator[tuple[int, float, float]]:
    """Index, weight and sqrt(var + eps) of each channel that lets something of its input through.

    Dead channels (BN207) and those of negligible weight (BN403) do not.
    """
    weight = layer.get(NormLayer.weight, None)
    least, off = dead_below(eps), NEGLIGIBLE * largest_size(weight, 1.0)
    pairs = zip(repeat(1.0) if weight is None else weight.values, var.values, strict=False)
    for index, (scale, variance) in enumerate(pairs):
        if variance >= least and abs(scale) > off and variance + eps > 0:
            yield index, scale, math.sqrt(variance + eps)
