"""What Identity, Cast and reshaping make of a constant: its numbers in another shape or type."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from functools import partial
from struct import pack, unpack
from typing import TypeVar

from bncheck.facts import Unknown, UnknownFact
from bncheck.readers.onnx.operation import Operation
from bncheck.readers.onnx.tensor import MOST_DIMENSIONS, data_type
from bncheck.readers.transposition import transposed
from bncheck.tensor import DTYPES, Tensor

Shape = tuple[int, ...]
T = TypeVar("T")
Integers = Callable[[str], Shape | None]  # the elements of a small constant, where it is one

MOST_EXPANDED = 2**20
EXACT_IN_FLOAT64 = frozenset(DTYPES) - {"int64", "uint64"}


def view(operation: Operation, source: Tensor, integers: Integers) -> Tensor | None:
    """The constant that an operation makes of its first input; None where it does more than that.

    A cast that bncheck does not compute gives a constant whose values are unknown.
    """
    if operation.op == "Cast":
        return _cast(operation, source)
    if operation.op == "Transpose":
        return _transpose(operation, source)
    if operation.op == "Expand":
        return _expand(operation, source, integers)
    reshape = _SHAPES.get(operation.op)
    shape = reshape(operation, source.shape, integers) if reshape else None
    if shape is None or math.prod(shape) != source.numel:
        return None
    return Tensor(shape, source.dtype, partial(_same, source), operation.outputs[0])


def _same(source: Tensor) -> array[float]:
    return source.values


def _unknown(why: str) -> array[float]:
    raise UnknownFact(Unknown("values", why))


def _identity(operation: Operation, shape: Shape, integers: Integers) -> Shape | None:
    return shape


def _reshape(operation: Operation, shape: Shape, integers: Integers) -> Shape | None:
    wanted = shape_asked_for(operation, integers)
    if wanted is None or wanted.count(-1) > 1 or min(wanted, default=0) < -1:
        return None
    if not operation.flag("allowzero"):
        if 0 in wanted[len(shape) :]:
            return None
        wanted = tuple(shape[i] if size == 0 else size for i, size in enumerate(wanted))
    given = math.prod(size for size in wanted if size != -1)
    rest = math.prod(shape) // given if given else 0
    return tuple(rest if size == -1 else size for size in wanted)


def shape_asked_for(operation: Operation, integers: Callable[[str], T | None]) -> Shape | T | None:
    """The shape that a Reshape gets: an attribute at first, an input since opset 5."""
    old = operation.version < 5
    return operation.integers("shape") if old else integers(operation.operand(1))


def _flatten(operation: Operation, shape: Shape, integers: Integers) -> Shape | None:
    axis = operation.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        return None
    axis += len(shape) if axis < 0 else 0
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _squeeze(operation: Operation, shape: Shape, integers: Integers) -> Shape | None:
    ones = [i for i, size in enumerate(shape) if size == 1]
    axes = _axes(operation, len(shape), integers) if _has_axes(operation) else ones
    if axes is None or not set(axes) <= set(ones):
        return None
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def _unsqueeze(operation: Operation, shape: Shape, integers: Integers) -> Shape | None:
    given = axes_of(operation, integers)
    axes = _axes(operation, len(shape) + len(given or ()), integers)
    if axes is None or len(shape) + len(axes) > MOST_DIMENSIONS:
        return None
    sizes = iter(shape)
    return tuple(1 if i in axes else next(sizes) for i in range(len(shape) + len(axes)))


def _transpose(operation: Operation, source: Tensor) -> Tensor | None:
    order = order_of(operation, len(source.shape))
    if sorted(order) != [*range(len(source.shape))]:
        return None
    return transposed(source, order, operation.outputs[0])


def _expand(operation: Operation, source: Tensor, integers: Integers) -> Tensor | None:
    """One number in many places: so exporters write the bias that a convolution does not have."""
    shape = integers(operation.operand(1))
    if shape is None or source.numel != 1 or not 0 <= math.prod(shape) <= MOST_EXPANDED:
        return None
    shape = (1,) * (len(source.shape) - len(shape)) + shape
    return Tensor(shape, source.dtype, partial(_repeated, source, shape), operation.outputs[0])


def _repeated(source: Tensor, shape: Shape) -> array[float]:
    return source.values * math.prod(shape)


def order_of(operation: Operation, rank: int) -> Shape:
    """Which axis of its input each axis of a Transpose is: it reverses them unless it is told."""
    order = operation.integers("perm")
    return tuple(reversed(range(rank))) if order is None else order


def axes_of(operation: Operation, integers: Integers) -> Shape | None:
    """The axes of a Squeeze, Unsqueeze or reduction: an attribute at first, an input later."""
    axes = operation.integers("axes")
    return integers(operation.operand(1)) if axes is None else axes


def _has_axes(operation: Operation) -> bool:
    return "axes" in operation.attributes or operation.operand(1) != ""


def _axes(operation: Operation, rank: int, integers: Integers) -> set[int] | None:
    axes = axes_of(operation, integers)
    if axes is None or not all(-rank <= axis < rank for axis in axes):
        return None
    return {axis % rank for axis in axes}


_SHAPES: dict[str, Callable[[Operation, Shape, Integers], Shape | None]] = {
    "Identity": _identity,
    "CastLike": _identity,  # to what flows there, whose type no bias is compared with
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}


def _cast(operation: Operation, source: Tensor) -> Tensor:
    dtype = cast_type(operation)
    load = partial(_rounded, source, dtype)
    return Tensor(source.shape, dtype, load, operation.outputs[0])


def cast_type(operation: Operation) -> str:
    """The type that a Cast gives, which opset 5 and older name in words."""
    if operation.version >= 6:
        return data_type(operation.integer("to", 0))
    word = operation.text("to", "").lower()
    return {"float": "float32", "double": "float64"}.get(word, word)


def _rounded(source: Tensor, dtype: str) -> array[float]:
    if dtype == source.dtype:
        return source.values
    rounding = _ROUNDING.get(dtype)
    exact = source.dtype in EXACT_IN_FLOAT64 or all(abs(v) <= 2**53 for v in source.values)
    if rounding is None or not exact:
        return _unknown(f"cast from {source.dtype} to {dtype} in the graph")
    return rounding(source.values)


def _to_float16(values: array[float]) -> array[float]:
    return array("f", (_half(value) for value in values))


def _half(value: float) -> float:
    try:
        return float(unpack("<e", pack("<e", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _to_bfloat16(values: array[float]) -> array[float]:
    return array("f", (_brain(value) for value in values))


def _brain(value: float) -> float:
    """The upper half of the float32, rounded to nearest, ties to even."""
    single = array("f", [value])
    (bits,) = unpack("=I", single.tobytes())
    if math.isnan(value):
        return value
    bits += 0x7FFF + (bits >> 16 & 1)
    return float(unpack("=f", pack("=I", bits & 0xFFFF0000))[0])


_ROUNDING: dict[str, Callable[[array[float]], array[float]]] = {
    "float64": lambda values: array("d", values),
    "float32": lambda values: array("f", values),
    "float16": _to_float16,
    "bfloat16": _to_bfloat16,
}
