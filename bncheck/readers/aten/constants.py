"""Which values of an ATen graph are constants, looking through what only views them.

As in the ONNX reader, copies, casts and reshapings of a constant become part of it and are no
nodes of the graph; what else is computed from constants is computed.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.readers.aten.call import Call
from bncheck.readers.transposition import transposed
from bncheck.tensor import Tensor

INTEGERS = frozenset({"int64", "int32"})
LONGEST_ARGUMENT = 1024  # elements of a constant that gives an operator its indices
MOST_VIEWS = 50  # each is a level of recursion when values are read
WIDER = {  # dtypes in which every value of another can be written
    "float16": frozenset({"float32", "float64"}),
    "bfloat16": frozenset({"float32", "float64"}),
    "float32": frozenset({"float64"}),
}

Shape = tuple[int, ...]
Views = Callable[[Call, Tensor], Tensor | None]


class Constants:
    """The constants of a graph by the name of their value."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)
        self._views: dict[str, int] = {}  # how many calls a constant is away from what is stored
        self._origins: dict[str, str] = {}
        self._transposed: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def add(self, name: str, tensor: Tensor) -> None:
        """Take note of a constant."""
        self._tensors[name] = tensor

    def get(self, name: str) -> Tensor | None:
        """A constant; None for a value that is none."""
        return self._tensors.get(name)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """The elements of a small constant of integers, where they are known."""
        tensor = self._tensors.get(name)
        if tensor is None or tensor.dtype not in INTEGERS or tensor.numel > LONGEST_ARGUMENT:
            return None
        with suppress(UnknownFact, UnreadableModel):  # a file beside it may be missing
            return tuple(map(int, tensor.values))
        return None

    def transposed(self, name: str) -> Tensor | None:
        """The matrix of which a constant is the transpose; None where it is none."""
        return self._tensors.get(self._transposed.get(name, ""))

    def origin(self, name: str) -> str:
        """The stored constant that a value views; the value itself where it is none."""
        return self._origins.get(name, name)

    def alias(self, name: str, stored: str) -> None:
        """Take a value for a constant that it replaces, as updated running statistics do."""
        tensor = self._tensors.get(stored)
        if tensor is not None:
            self._tensors[name] = tensor
            self._origins[name] = self.origin(stored)

    def absorb(self, call: Call) -> bool:
        """Whether a call only makes a constant of another, of which note is taken."""
        look = VIEWS.get(call.op)
        source = call.value("self")
        tensor, views = self._tensors.get(source), self._views.get(source, 0) + 1
        if look is None or tensor is None or len(call.outputs) != 1 or views > MOST_VIEWS:
            return False
        made = look(call, tensor)
        if made is None:
            return False
        (output,) = call.outputs
        self._tensors[output] = made
        self._views[output] = views
        self._origins[output] = self.origin(source)
        if look is _permuted and len(made.shape) == 2 and made.shape == tensor.shape[::-1]:
            self._note_transpose(call, tensor, source, output)
        return True

    def _note_transpose(self, call: Call, tensor: Tensor, source: str, output: str) -> None:
        if _order(call, len(tensor.shape)) == (1, 0):
            self._transposed[output] = source


def _same(call: Call, source: Tensor) -> Tensor:
    return source


def _cast(call: Call, source: Tensor) -> Tensor | None:
    if "other" in call.arguments:  # as another value is: whose dtype may not be known
        return None
    dtype = call.text("dtype", source.dtype) or "unknown"
    if dtype == source.dtype:
        return source
    if dtype in WIDER.get(source.dtype, ()):
        return Tensor(source.shape, dtype, partial(_values, source), source.storage)
    why = f"cast from {source.dtype} to {dtype} in the graph"
    return Tensor(source.shape, dtype, partial(_unknown, why))


def _values(source: Tensor) -> array[float]:
    return source.values


def _unknown(why: str) -> array[float]:
    raise UnknownFact(Unknown("values", why))


def _reshaped(call: Call, source: Tensor) -> Tensor | None:
    reshape = _SHAPES[call.op]
    shape = reshape(call, source.shape)
    if shape is None or math.prod(shape) != source.numel:
        return None
    return Tensor(shape, source.dtype, partial(_values, source), source.storage)


def _to_size(call: Call, shape: Shape) -> Shape | None:
    wanted = call.sizes("shape" if call.op == "aten.reshape" else "size")
    if wanted is None or wanted.count(-1) > 1:
        return None
    sizes = tuple(size for size in wanted if size is not None and size >= -1)
    if len(sizes) < len(wanted):
        return None
    given = math.prod(size for size in sizes if size != -1)
    rest = math.prod(shape) // given if given else 0
    return tuple(rest if size == -1 else size for size in sizes)


def _flattened(call: Call, shape: Shape) -> Shape | None:
    first, last = call.integer("start_dim", 0), call.integer("end_dim", -1)
    axes = _axes((first, last), len(shape)) if first is not None and last is not None else None
    if axes is None or axes[0] > axes[1]:
        return None
    begin, end = axes[0], axes[1] + 1
    return (*shape[:begin], math.prod(shape[begin:end]), *shape[end:])


def _squeezed(call: Call, shape: Shape) -> Shape | None:
    axes = _axes(call.integers("dim", tuple(range(len(shape)))), len(shape))
    if axes is None:
        return None
    return tuple(size for axis, size in enumerate(shape) if axis not in axes or size != 1)


def _unsqueezed(call: Call, shape: Shape) -> Shape | None:
    axes = _axes(call.integers("dim"), len(shape) + 1)
    if axes is None or len(axes) != 1:
        return None
    return (*shape[: axes[0]], 1, *shape[axes[0] :])


def _axes(axes: tuple[int, ...] | None, rank: int) -> tuple[int, ...] | None:
    """Axes counted from the front; None where one is out of range."""
    if axes is None or not all(-rank <= axis < rank for axis in axes):
        return None
    return tuple(axis % rank for axis in axes)


def _permuted(call: Call, source: Tensor) -> Tensor | None:
    order = _order(call, len(source.shape))
    if order is None or sorted(order) != [*range(len(source.shape))]:
        return None
    return transposed(source, order, source.storage)


def _order(call: Call, rank: int) -> tuple[int, ...] | None:
    """Which axis of the source each axis of the result is."""
    if call.op == "aten.permute":
        return _axes(call.integers("dims"), rank)
    order = [*range(rank)]
    if call.op in ("aten.t", "aten.numpy_T"):
        return tuple(reversed(order))
    pair = (call.integer("dim0"), call.integer("dim1"))
    axes = _axes(
        (-2, -1) if call.op == "aten.mT" else tuple(a for a in pair if a is not None), rank
    )
    if axes is None or len(axes) != 2:
        return None
    first, second = axes
    order[first], order[second] = order[second], order[first]
    return tuple(order)


_SHAPES: dict[str, Callable[[Call, Shape], Shape | None]] = {
    **dict.fromkeys(("aten.view", "aten.reshape", "aten._unsafe_view", "aten.expand"), _to_size),
    "aten.flatten": _flattened,
    "aten.squeeze": _squeezed,
    "aten.unsqueeze": _unsqueezed,
}
COPIES = "alias clone contiguous detach lift_fresh lift_fresh_copy positive"
CASTS = "to _to_copy"
PERMUTATIONS = "permute t transpose numpy_T mT"
VIEWS: dict[str, Views] = {
    **{f"aten.{op}": _same for op in COPIES.split()},
    **{f"aten.{op}": _cast for op in CASTS.split()},
    **{f"aten.{op}": _permuted for op in PERMUTATIONS.split()},
    **dict.fromkeys(_SHAPES, _reshaped),
}
