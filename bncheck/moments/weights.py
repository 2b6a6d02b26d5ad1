"""Convolutions and linear layers: the mean of what they make, from the mean of what they get."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from math import prod

import numpy as np

from bncheck.facts import Unknown, UnknownFact
from bncheck.graph import Node, NodeKind
from bncheck.moments.distribution import Array, Channels, Floats
from bncheck.moments.space import SAME, Space, Window, windows
from bncheck.readers.limits import all_values
from bncheck.tensor import Tensor

FAR = 64  # a size of space at which zeros around it count little, and in proportion
LEAST_SEEN = 0.25  # of a window, data and not padding, over all places; see convolved


def kept(tensor: Tensor) -> Floats:
    """The elements of a small tensor, flat and kept. Raises UnknownFact where there are none."""
    return _whole(tensor, np.asarray(tensor.values, np.float64))


def values(tensor: Tensor) -> Array:
    """The elements of a tensor in its shape, which are not kept. Raises UnknownFact likewise."""
    with all_values():
        held = _whole(tensor, np.asarray(tensor.read())).reshape(tensor.shape)
    return held if held.dtype.kind == "f" else held.astype(np.float64)


def _whole(tensor: Tensor, held: Array) -> Array:
    if held.size != tensor.numel:
        raise UnknownFact(Unknown("values", "there are not as many as the shape says"))
    return held


def convolved(
    node: Node, x: Channels, weight: Tensor, space: Space, wants_deviation: bool = False
) -> Channels | None:
    """A convolution's output over all places, without the bias; None for odd shapes.

    None also where the window sees mostly padding: then no two places see the same taps, the mean
    differs from place to place, and what is known, the mean over all, is not that of any tap.

    Where a tap of the kernel sees the zeros of the padding it adds nothing, so that it counts by
    the share of places at which it sees data. Where the size of space is not known, it counts as
    far from any border, and ``fringe`` is what the border takes away.
    """
    if not _fits(node, x, weight.shape):
        return None
    held, rank = values(weight), len(weight.shape) - 2
    known = _without(x.border, space) if space is not None and len(space) == rank else None
    inner, fringe = _shares(node, windows(node, rank, known, x.border), known), list[Floats]()
    if node.kind is NodeKind.CONV and inner.mean() < LEAST_SEEN:
        return None
    if known is None:
        far = (FAR,) * rank
        outer = _shares(node, windows(node, rank, far, x.border, SAME), far)
        fringe.append(_summed(node, held, (outer - inner) * FAR, x.mean))
    if x.fringe is not None:
        fringe.append(_summed(node, held, inner, x.fringe))
    made = Channels(_summed(node, held, inner, x.mean))
    if wants_deviation and x.variance is not None:
        made = replace(made, deviation=np.sqrt(_summed(node, held**2, inner, x.variance)))
    return replace(made, fringe=np.sum(fringe, axis=0)) if fringe else made


def _without(border: tuple[int, ...], space: tuple[int, ...]) -> Space:
    """The size of the data within zeros that were added to it."""
    rank = len(space)
    added = [border[i] + border[rank + i] for i in range(rank)] if border else [0] * rank
    inner = tuple(size - zeros for size, zeros in zip(space, added, strict=True))
    return inner if min(inner, default=1) > 0 else None


def _fits(node: Node, x: Channels, shape: tuple[int, ...]) -> bool:
    """Whether a weight takes that many channels."""
    groups = node.attributes.get("groups", 1)
    if not isinstance(groups, int) or groups < 1 or len(shape) < 3 or 0 in shape:
        return False
    taken = shape[0] if node.kind is NodeKind.CONV_TRANSPOSE else shape[1] * groups
    plain = (x.axis, x.mean.ndim, x.spread) == (1, 1, False)
    plain = plain and len(x.border) in (0, 2 * (len(shape) - 2))
    return plain and taken == len(x.mean) and shape[0] % groups == 0


def _shares(node: Node, along: list[Window], space: Space) -> Floats:
    """How much each tap of the kernel counts; as far from any border where the size is missing."""
    transposed, weight = node.kind is NodeKind.CONV_TRANSPOSE, node.parameters["weight"]
    assert isinstance(weight, Tensor)
    if space is None or not along:
        kernel = weight.shape[2:]
        return np.full(kernel, 1 / _strides(node, len(kernel)) if transposed else 1.0)
    each = [
        window.transposed_shares(size) if transposed else window.shares(size)
        for window, size in zip(along, space, strict=True)
    ]
    return np.asarray(reduce(np.multiply.outer, each, np.ones(())))


def _strides(node: Node, rank: int) -> int:
    """How many outputs a transposed convolution makes for each input."""
    stride = node.attributes.get("stride")
    return prod(stride) if isinstance(stride, tuple) and len(stride) == rank else 1


def _summed(node: Node, weight: Array, shares: Floats, x: Floats) -> Floats:
    """The sum of a kernel's taps, each with its share, times a vector of channels."""
    groups = node.attributes.get("groups", 1)
    assert isinstance(groups, int)
    taps = weight.reshape(-1, shares.size) @ shares.ravel().astype(weight.dtype)
    parts = taps.astype(np.float64).reshape(groups, -1, weight.shape[1])
    if node.kind is NodeKind.CONV_TRANSPOSE:
        parts = parts.swapaxes(1, 2)
    return np.asarray(parts @ x.reshape(groups, -1, 1), np.float64).ravel()


def linear(
    node: Node, x: Channels, weight: Tensor, wants_deviation: bool = False
) -> Channels | None:
    """The A B of a LINEAR, without the bias; None for odd shapes."""
    alpha = node.attributes.get("alpha", 1.0)
    if len(weight.shape) != 2 or x.mean.ndim != 1 or node.attributes.get("transA"):
        return None
    upright = bool(node.attributes.get("transB"))
    times, rest = divmod(weight.shape[1 if upright else 0], max(len(x.mean), 1))
    if rest or (times > 1 and not x.spread) or not isinstance(alpha, int | float):
        return None
    matrix = values(weight) if upright else values(weight).T

    def product(matrix: Array, vector: Floats) -> Floats:
        return np.asarray(matrix @ np.repeat(vector, times).astype(matrix.dtype), np.float64)

    made = Channels(alpha * product(matrix, x.mean), axis=x.axis)
    if wants_deviation and x.variance is not None:
        made = replace(made, deviation=abs(alpha) * np.sqrt(product(matrix**2, x.variance)))
    return made if x.fringe is None else replace(made, fringe=alpha * product(matrix, x.fringe))


def share_of_zeros(tensor: Tensor) -> float:
    """How much of a tensor is exactly 0. Raises UnknownFact where it cannot be read."""
    held = values(tensor)
    return 1 - np.count_nonzero(held) / held.size if held.size else 0.0
