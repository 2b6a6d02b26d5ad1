"""Sums and products: of channels and a constant, or of two values that flow in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bncheck.graph import Node, NodeKind
from bncheck.moments.distribution import Channels, Floats, normal
from bncheck.moments.weights import kept
from bncheck.tensor import Tensor

MOST_AXES = 16
MOST = 2**24  # elements of a constant


def with_constant(node: Node, x: Channels, rank: int | None) -> Channels | None:
    """ADD or MUL with a constant."""
    tensor = next(iter(node.parameters.values()))
    if not isinstance(tensor, Tensor) or x.spread or x.border:
        return None
    constant = _along(x, tensor, rank, node.attributes.get("axis"))
    alpha = node.attributes.get("alpha", 1)
    if constant is None or not isinstance(alpha, int | float):
        return None
    return _with(node, x, constant * alpha)


def _with(node: Node, x: Channels, constant: Floats) -> Channels | None:
    """``constant`` has an axis more than the mean, over which it may not vary but in an ADD."""
    reverse = node.attributes.get("reversed") is True
    if node.kind is NodeKind.MUL:
        if reverse:
            return None
        factor = 1 / constant if node.attributes.get("divide") else constant
        return _scaled(x, factor) if constant.shape[-1] == 1 else None
    sign = -1.0 if node.attributes.get("subtract") else 1.0
    if reverse:
        return _shifted(_scaled(x, np.array([sign])), constant)
    return _shifted(x, sign * constant)


def _scaled(x: Channels, factor: Floats) -> Channels:
    curve = None if x.curve is None else x.curve * factor
    fringe = None if x.fringe is None else x.fringe * factor[..., 0]
    return replace(x, mean=x.mean * factor[..., 0], curve=curve, fringe=fringe)


def _shifted(x: Channels, constant: Floats) -> Channels:
    varies = constant.shape[-1] > 1
    shift = constant.mean(axis=-1)
    curve = None if x.curve is None or varies else x.curve + shift[..., None]
    return replace(x, mean=x.mean + shift, curve=curve)


def _along(x: Channels, tensor: Tensor, rank: int | None, axis: object) -> Floats | None:
    """A constant over the axes of the channels, then one for all others that it varies over."""
    if tensor.numel == 1:
        return kept(tensor).reshape([1] * x.mean.ndim + [1])
    if rank is None or not 0 < len(tensor.shape) <= rank <= MOST_AXES:
        return None
    before = axis if isinstance(axis, int) else rank - len(tensor.shape)
    shape = [1] * before + [*tensor.shape]
    shape += [1] * (rank - len(shape))
    if len(shape) != rank or before < 0 or tensor.numel > MOST:
        return None
    sizes = [shape[axis] for axis in x.axes]
    if any(size not in (1, own) for size, own in zip(sizes, x.mean.shape, strict=True)):
        return None
    others = [axis for axis in range(rank) if axis not in x.axes]
    whole = kept(tensor).reshape(shape)
    return np.transpose(whole, [*x.axes, *others]).reshape(*sizes, -1)


def summed(node: Node, x: Channels, y: Channels) -> Channels | None:
    """x + y or x - y. Where they do not depend on the same z, they count as independent.

    Their sum is then taken for normal, with the sum of their variances.
    """
    alpha = node.attributes.get("alpha", 1)
    if not isinstance(alpha, int | float) or not _alike(x, y):
        return None
    factor = -float(alpha) if node.attributes.get("subtract") else float(alpha)
    if x.base is y.base and x.curve is not None and y.curve is not None:
        return x.through(x.curve + factor * y.curve)
    mean, (one, other) = x.mean + factor * y.mean, (x.variance, y.variance)
    if one is None or other is None:
        return Channels(mean, axis=x.axis, spread=x.spread, fringe=_fringe(x, y, factor))
    return replace(normal(mean, np.sqrt(one + factor**2 * other), x.axis), spread=x.spread)


def _fringe(x: Channels, y: Channels, factor: float) -> Floats | None:
    if x.fringe is None:
        return None if y.fringe is None else factor * y.fringe
    return x.fringe if y.fringe is None else x.fringe + factor * y.fringe


def multiplied(node: Node, x: Channels, y: Channels) -> Channels | None:
    """x * y or x / y of the same z, as an activation in parts has it; no other is predictable."""
    if x.base is not y.base or x.curve is None or y.curve is None or not _alike(x, y):
        return None
    divide = node.attributes.get("divide")
    return x.through(x.curve / y.curve if divide else x.curve * y.curve)


def _alike(x: Channels, y: Channels) -> bool:
    same = (x.axis, x.mean.shape, x.spread) == (y.axis, y.mean.shape, y.spread)
    return same and not x.border and not y.border
