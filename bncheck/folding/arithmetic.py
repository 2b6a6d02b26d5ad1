"""The numbers of a plan: new parameters of a node in float64, and their one rounding.

Layouts are those of ``graph``: a convolution's weight is (out, in / groups, ...), a transposed
one's (in, out / groups, ...), a matrix (in, out) or, with ``transB``, (out, in).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bncheck.folding.absorb import LINEAR, Side, Step
from bncheck.folding.arguments import flag, integer
from bncheck.folding.reasons import Blocked, Reason
from bncheck.graph import Node, NodeKind
from bncheck.readers.limits import all_values
from bncheck.tensor import Tensor

K = NodeKind
Array = NDArray[np.float64]
SMALLEST_NORMAL = {
    "float64": 2.0**-1022,
    "float32": 2.0**-126,
    "float16": 2.0**-14,
    "bfloat16": 2.0**-126,
}
LARGEST = {
    "float64": float(np.finfo(np.float64).max),
    "float32": float(np.finfo(np.float32).max),
    "float16": 65504.0,
    "bfloat16": float.fromhex("0x1.fep127"),
}


@dataclass(slots=True)
class Parameters:
    """Weight and bias of a node while they change; ``bias`` is None where there is none."""

    weight: Array | None
    bias: Array | None


def new_parameters(node: Node, steps: Iterable[Step]) -> Mapping[str, Array]:
    """What a node's parameters become, float64, by role; those that stay the same too.

    A bias that the node did not have comes where a shift needs it. Raises Blocked where a number
    is not finite.
    """
    held = Parameters(values(node, "weight"), values(node, "bias"))
    for step in steps:
        change(node, held, step.side, np.array(step.map.scale()), np.array(step.map.shift()))
    found = {"weight": held.weight, "bias": held.bias}
    changed = {role: array for role, array in found.items() if array is not None}
    if not all(np.isfinite(array).all() for array in changed.values()):
        raise Blocked(Reason.NOT_FINITE, node)
    return changed


def change(node: Node, held: Parameters, side: Side, scale: Array, shift: Array) -> None:
    """Take a map on one side into parameters."""
    take = _SUM if node.kind is K.ADD else _CHANGES[side, _family(node)]
    take(node, held, scale, shift)


def values(node: Node, role: str) -> Array | None:
    """A stored parameter in float64, in its shape; None where there is none."""
    tensor = node.parameters.get(role)
    if not isinstance(tensor, Tensor):
        return None
    with all_values():
        return np.array(tensor.fresh(), dtype=np.float64).reshape(tensor.shape)


def rounded(array: Array, dtype: str) -> bytes:
    """The elements in a dtype, rounded once, little-endian, in row-major order.

    Raises Blocked where one overflows, or where a whole output channel (axis 0) loses its
    precision below the smallest normal number.
    """
    if dtype not in LARGEST:
        raise Blocked(Reason.PRECISION)
    largest = np.abs(array).max(initial=0.0)
    if largest > LARGEST[dtype] or _underflows(array, dtype):
        raise Blocked(Reason.PRECISION)
    if dtype == "bfloat16":
        return _bfloat16(array).tobytes()
    cast = array.astype(f"<f{ {'float64': 8, 'float32': 4, 'float16': 2}[dtype] }")
    if not np.isfinite(cast).all():  # 65519.9 is below 65520, but rounds to infinity in float16
        raise Blocked(Reason.PRECISION)
    return cast.tobytes()


def _underflows(array: Array, dtype: str) -> bool:
    if array.ndim < 2 or not array.size:
        return False
    channels = np.abs(array.reshape(array.shape[0], -1)).max(axis=1)
    return bool(((channels > 0) & (channels < SMALLEST_NORMAL[dtype])).any())


def _bfloat16(array: Array) -> NDArray[np.uint16]:
    """To nearest, ties to even, from float64 at once: by way of float32 it would be rounded twice.

    Rounding to odd first keeps what decides a tie (Boldo and Melquiond 2008).
    """
    single = array.astype(np.float32)
    bits = single.view(np.uint32)
    inexact = single.astype(np.float64) != array
    too_large = np.abs(single.astype(np.float64)) > np.abs(array)
    odd = np.where(inexact, np.where(too_large, bits - 1, bits) | 1, bits).astype(np.uint64)
    nearest = (odd + 0x7FFF + ((odd >> 16) & 1)) >> 16
    return np.asarray(nearest, dtype="<u2")


def _family(node: Node) -> NodeKind:
    return node.kind if node.kind in LINEAR else K.BATCH_NORM


Change = Callable[[Node, Parameters, Array, Array], None]


def _bias(node: Node, held: Parameters, channels: int) -> Array:
    return np.zeros(channels) if held.bias is None else held.bias


def _shifted(held: Parameters, bias: Array, shift: Array) -> None:
    """Give a node its new bias, unless it had none and needs none."""
    if held.bias is not None or shift.any():
        held.bias = bias + shift


def _after_convolution(node: Node, held: Parameters, scale: Array, shift: Array) -> None:
    assert held.weight is not None
    held.weight = held.weight * _column(scale, held.weight.ndim)
    _shifted(held, scale * _bias(node, held, len(scale)), shift)


def _column(scale: Array, rank: int) -> Array:
    return scale.reshape(-1, *[1] * (rank - 1))


def _grouped(node: Node, weight: Array, numbers: Array) -> tuple[Array, Array]:
    """Weight as (groups, axis 0 of a group, axis 1, ...), numbers of axis 1 as broadcast to it."""
    groups = integer(node, "groups") or 1
    apart = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return apart, numbers.reshape(groups, 1, weight.shape[1], *[1] * (weight.ndim - 2))


def _before_convolution(node: Node, held: Parameters, scale: Array, shift: Array) -> None:
    assert held.weight is not None
    apart, terms = _grouped(node, held.weight, shift)
    added = (apart * terms).sum(axis=tuple(range(2, apart.ndim))).reshape(-1)
    _, factors = _grouped(node, held.weight, scale)
    held.weight = (apart * factors).reshape(held.weight.shape)
    _shifted(held, _bias(node, held, len(added)), added)


def _after_transposed(node: Node, held: Parameters, scale: Array, shift: Array) -> None:
    assert held.weight is not None
    apart, factors = _grouped(node, held.weight, scale)
    held.weight = (apart * factors).reshape(held.weight.shape)
    _shifted(held, scale * _bias(node, held, len(scale)), shift)


def _before_transposed(node: Node, held: Parameters, scale: Array, shift: Array) -> None:
    assert held.weight is not None
    held.weight = held.weight * _column(scale, held.weight.ndim)


def _beside_convolution(node: Node, held: Parameters, scale: Array, shift: Array) -> None:
    """The tap in the middle of the kernel reads the datum itself."""
    assert held.weight is not None
    channels, per_group = held.weight.shape[:2]
    middle = tuple(size // 2 for size in held.weight.shape[2:])
    outputs = np.arange(channels)
    weight = held.weight.copy()
    weight[(outputs, outputs % per_group, *middle)] += scale
    held.weight = weight
    _shifted(held, _bias(node, held, channels), shift)


def _product(node: Node) -> tuple[float, float]:
    """alpha and beta of y = alpha * A B + beta * bias."""
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    assert isinstance(alpha, float | int)
    assert isinstance(beta, float | int)
    return alpha, beta


def _after_linear(node: Node, held: Parameters, scale: Array, shift: Array) -> None:
    assert held.weight is not None
    held.weight = held.weight * (scale[:, None] if flag(node, "transB") else scale)
    _, beta = _product(node)
    _shifted(held, scale * _bias(node, held, len(scale)), shift / beta)


def _before_linear(node: Node, held: Parameters, scale: Array, shift: Array) -> None:
    assert held.weight is not None
    matrix = held.weight.T if flag(node, "transB") else held.weight
    alpha, beta = _product(node)
    added = alpha / beta * (shift @ matrix)
    scaled = matrix * scale[:, None]
    held.weight = scaled.T if flag(node, "transB") else scaled
    _shifted(held, _bias(node, held, len(added)), added)


def _after_norm(node: Node, held: Parameters, scale: Array, shift: Array) -> None:
    assert held.weight is not None
    held.weight = held.weight * scale
    _shifted(held, scale * _bias(node, held, len(scale)), shift)


def _before_batch_norm(node: Node, held: Parameters, scale: Array, shift: Array) -> None:
    """weight / sigma * (scale * x + shift - mean) + bias, with the same mean and sigma."""
    mean, var, eps = values(node, "running_mean"), values(node, "running_var"), _eps(node)
    assert held.weight is not None
    assert mean is not None
    assert var is not None
    gain = held.weight / np.sqrt(var + eps)
    held.weight = held.weight * scale
    _shifted(held, _bias(node, held, len(scale)), gain * (scale * mean + shift - mean))


def _eps(node: Node) -> float:
    eps = node.attributes.get("eps", 1e-5)
    assert isinstance(eps, float | int)
    return eps


def _of_sum(node: Node, held: Parameters, scale: Array, shift: Array) -> None:
    """x + c, or x - c, whose data were scaled before; ``alpha`` is a factor on c."""
    assert held.bias is not None
    alpha = node.attributes.get("alpha", 1.0)
    assert isinstance(alpha, float | int)
    sign = -1.0 if flag(node, "subtract") else 1.0
    rank = max(held.bias.ndim, 1)
    varying = [axis for axis, size in enumerate(held.bias.shape) if size != 1]
    place = varying[0] if varying else rank - 1
    shape = [1] * rank
    shape[place] = len(scale)
    held.bias = held.bias * scale.reshape(shape) + shift.reshape(shape) / (sign * alpha)


_SUM: Change = _of_sum
_CHANGES: Mapping[tuple[Side, NodeKind], Change] = {
    (Side.OUTPUT, K.CONV): _after_convolution,
    (Side.INPUT, K.CONV): _before_convolution,
    (Side.PARALLEL, K.CONV): _beside_convolution,
    (Side.OUTPUT, K.CONV_TRANSPOSE): _after_transposed,
    (Side.INPUT, K.CONV_TRANSPOSE): _before_transposed,
    (Side.OUTPUT, K.LINEAR): _after_linear,
    (Side.INPUT, K.LINEAR): _before_linear,
    (Side.OUTPUT, K.BATCH_NORM): _after_norm,
    (Side.INPUT, K.BATCH_NORM): _before_batch_norm,
}
