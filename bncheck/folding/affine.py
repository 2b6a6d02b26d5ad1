"""Nodes that scale and shift each channel by constants, and their numbers.

At inference a BatchNorm is y = scale * x + shift in each channel, with
scale = weight / sqrt(running_var + eps) and shift = bias - scale * running_mean
(Jacob et al. 2018, arXiv:1712.05877, section 3.2). All arithmetic is in float64.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from bncheck.folding.reasons import Blocked, Reason
from bncheck.graph import Node, NodeKind
from bncheck.tensor import Tensor

ROUNDING = 2.0**-22  # relative; a few roundings of float32


@dataclass(frozen=True, eq=False)
class Affine:
    """The numbers of one node: ``size`` channels, or one number for all (``size`` 1)."""

    node: Node
    size: int

    @cached_property
    def scale(self) -> array[float]:
        """One factor a channel, float64. Raises Blocked where one is not finite."""
        return self._numbers[0]

    @cached_property
    def shift(self) -> array[float]:
        """One summand a channel, float64. Raises Blocked where one is not finite."""
        return self._numbers[1]

    @cached_property
    def is_positive(self) -> bool:
        """Whether every factor is above zero."""
        weight = self.node.parameters.get("weight")
        if self.node.kind is NodeKind.BATCH_NORM:  # the sign of a factor is that of the weight
            return not isinstance(weight, Tensor) or weight.minimum > 0
        return self.node.kind is NodeKind.ADD or min(self.scale) > 0

    @cached_property
    def has_shift(self) -> bool:
        """Whether any summand is not zero."""
        return self.node.kind is not NodeKind.MUL and any(self.shift)

    @cached_property
    def is_identity(self) -> bool:
        """Whether nothing changes, but for the roundings of float32."""
        return self.node.kind is NodeKind.BATCH_NORM and all(map(_changes_nothing, *self._terms))

    @property
    def _terms(self) -> tuple[array[float], Iterator[float], Iterator[float]]:
        """Scale, bias and scale * mean of a BatchNorm, for each channel; as they are asked for."""
        scale = self.scale
        mean, bias = _values(self.node, "running_mean"), _values(self.node, "bias")
        moved = (s * m for s, m in zip(scale, mean, strict=True))
        return scale, iter(bias or array("d", bytes(8 * len(scale)))), moved

    @cached_property
    def _numbers(self) -> tuple[array[float], array[float]]:
        scale, shift = _NUMBERS[self.node.kind](self.node)
        if not (math.isfinite(sum(scale)) and math.isfinite(sum(shift))):
            raise Blocked(Reason.NOT_FINITE, self.node)
        return scale, shift


def _changes_nothing(scale: float, bias: float, moved: float) -> bool:
    slack = ROUNDING * (abs(bias) + abs(moved))
    return abs(scale - 1) <= ROUNDING and abs(bias - moved) <= slack


def _values(node: Node, role: str) -> array[float]:
    """A parameter's values in float64; empty where the node has none in that role."""
    tensor = node.parameters.get(role)
    return array("d", tensor.values) if isinstance(tensor, Tensor) else array("d")


def _of_batch_norm(node: Node) -> tuple[array[float], array[float]]:
    mean, var = _values(node, "running_mean"), _values(node, "running_var")
    eps = node.attributes.get("eps", 1e-5)
    assert isinstance(eps, float | int)
    if min((value + eps for value in var), default=1) <= 0:
        raise Blocked(Reason.NOT_FINITE, node)
    ones, zeros = array("d", [1.0]) * len(var), array("d", bytes(8 * len(var)))
    weight, bias = _values(node, "weight") or ones, _values(node, "bias") or zeros
    scale = array("d", (w / math.sqrt(v + eps) for w, v in zip(weight, var, strict=True)))
    terms = zip(bias, scale, mean, strict=True)
    return scale, array("d", (b - s * m for b, s, m in terms))


def _of_product(node: Node) -> tuple[array[float], array[float]]:
    factors = _values(node, "weight")
    if node.attributes.get("divide"):
        if not all(factors):
            raise Blocked(Reason.NOT_FINITE, node)
        factors = array("d", (1 / factor for factor in factors))
    return factors, array("d", bytes(8 * len(factors)))


def _of_sum(node: Node) -> tuple[array[float], array[float]]:
    alpha = node.attributes.get("alpha", 1)
    assert isinstance(alpha, float | int)
    reversed_ = bool(node.attributes.get("reversed"))
    factor = -1.0 if reversed_ and node.attributes.get("subtract") else 1.0
    sign = -1.0 if node.attributes.get("subtract") and not reversed_ else 1.0
    terms = array("d", (sign * alpha * value for value in _values(node, "bias")))
    return array("d", [factor]) * len(terms), terms


_NUMBERS = {
    NodeKind.BATCH_NORM: _of_batch_norm,
    NodeKind.MUL: _of_product,
    NodeKind.ADD: _of_sum,
}
