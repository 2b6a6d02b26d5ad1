"""Small arrays of integers that a graph computes from shapes: what Reshape, Slice and Pad are told.

Exporters write ``x.view(x.size(0), -1)`` as Shape, Gather, Unsqueeze and Concat, and the sides of a
padding as a dozen operations on constants. An element that depends on data is None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bncheck.graph import Shape
from bncheck.readers.onnx.operation import Operation
from bncheck.readers.onnx.tensor import data_type

LONGEST = 64  # elements of one array
INTEGERS = ("int64", "int32")

Elements = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """An array of at most two axes."""

    shape: tuple[int, ...]
    elements: Elements


Look = Callable[[str], Sizes | None]


def computed(operation: Operation, look: Look, shape: Shape) -> Sizes | None:
    """What an operation makes, where it is such an array.

    ``look`` finds those that it reads, ``shape`` is that of its first input.
    """
    if operation.domain or operation.opaque or len(operation.outputs) != 1:
        return None
    if operation.op == "Shape":
        return _shape(operation, shape)
    rule = _RULES.get(operation.op)
    given = [look(name) for name in operation.inputs if name] if rule else []
    known = [each for each in given if each is not None]
    made = rule(operation, known) if rule and len(known) == len(given) > 0 else None
    fits = made is not None and math.prod(made.shape) == len(made.elements) <= LONGEST
    return made if fits else None


def _vector(elements: Sequence[int | None]) -> Sizes:
    return Sizes((len(elements),), tuple(elements))


def _shape(operation: Operation, shape: Shape) -> Sizes | None:
    start, end = operation.integer("start", 0), operation.integer("end", None)
    return _vector(shape[start:end]) if 0 < len(shape) <= LONGEST else None


def _same(operation: Operation, given: list[Sizes]) -> Sizes | None:
    return given[0]


def _number(operation: Operation, given: list[Sizes]) -> Sizes | None:
    return Sizes((), (len(given[0].elements),))


def _range(operation: Operation, given: list[Sizes]) -> Sizes | None:
    bounds = [each.elements[0] for each in given if len(each.elements) == 1]
    start, end, step = (*bounds, None, None, None)[:3]
    if start is None or end is None or not step or abs(end - start) > LONGEST * abs(step):
        return None
    return _vector(range(start, end, step))


def _cast(operation: Operation, given: list[Sizes]) -> Sizes | None:
    whole = operation.version >= 6 and data_type(operation.integer("to", 0)) in INTEGERS
    return given[0] if whole else None


def _gather(operation: Operation, given: list[Sizes]) -> Sizes | None:
    if len(given) != 2 or len(given[0].shape) != 1 or operation.integer("axis", 0) not in (0, -1):
        return None
    data, places = given
    size = len(data.elements)
    inside = [at for at in places.elements if at is not None and -size <= at < size]
    if len(inside) < len(places.elements):
        return None
    return Sizes(places.shape, tuple(data.elements[at] for at in inside))


def _flat(operation: Operation, given: list[Sizes]) -> Sizes | None:
    """Unsqueeze and Squeeze, of and to one number or a row of them."""
    elements = given[0].elements
    if operation.op == "Unsqueeze":
        return _vector(elements) if given[0].shape == () else None
    return Sizes((), elements) if len(elements) == 1 else None


def _reshape(operation: Operation, given: list[Sizes]) -> Sizes | None:
    if len(given) != 2 or len(given[1].elements) > 2 or None in given[1].elements:
        return None
    wanted = [size for size in given[1].elements if size is not None and size != 0]
    rest = len(given[0].elements) // max(math.prod(size for size in wanted if size > 0), 1)
    return Sizes(tuple(rest if size < 0 else size for size in wanted), given[0].elements)


def _concat(operation: Operation, given: list[Sizes]) -> Sizes | None:
    if any(len(each.shape) != 1 for each in given) or len(given) > LONGEST:
        return None
    return _vector([element for each in given for element in each.elements])


def _slice(operation: Operation, given: list[Sizes]) -> Sizes | None:
    """A section of the first axis, in either direction."""
    if len(given) < 3 or not given[0].shape or any(len(each.elements) != 1 for each in given[1:]):
        return None
    (start, end, axis, step) = (*(each.elements[0] for each in given[1:]), 0, 1)[:4]
    if start is None or end is None or not step or axis != 0:
        return None
    data = given[0]
    width = math.prod(data.shape[1:])
    rows = [data.elements[at : at + width] for at in range(0, len(data.elements), width or 1)]
    before_all = end < -len(rows) and step < 0  # the end of a row that is read backwards
    taken = rows[start : None if before_all else end : step]
    return Sizes((len(taken), *data.shape[1:]), tuple(e for row in taken for e in row))


def _transpose(operation: Operation, given: list[Sizes]) -> Sizes | None:
    shape, elements = given[0].shape, given[0].elements
    if len(shape) != 2 or operation.integers("perm") not in (None, (1, 0)):
        return None
    columns = [elements[at :: shape[1]] for at in range(shape[1])]
    return Sizes(shape[::-1], tuple(element for column in columns for element in column))


def _expand(operation: Operation, given: list[Sizes]) -> Sizes | None:
    """To as many as there are, or from one number to a row of known length."""
    if len(given) != 2 or len(given[0].shape) > 1 or len(given[1].elements) != 1:
        return None
    data, size = given[0], given[1].elements[0]
    if size is None:
        return None
    return _vector(data.elements * size) if len(data.elements) == 1 and size <= LONGEST else data


def _arithmetic(operation: Operation, given: list[Sizes]) -> Sizes | None:
    if len(given) != 2 or any(len(each.shape) > 1 for each in given):
        return None
    left, right = given
    length = max(len(left.elements), len(right.elements))
    if {len(left.elements), len(right.elements)} - {1, length}:
        return None
    compute = _ARITHMETIC[operation.op]
    pairs = zip(_stretched(left, length), _stretched(right, length), strict=True)
    elements = tuple(None if a is None or b is None else compute(a, b) for a, b in pairs)
    return Sizes((length,) if left.shape or right.shape else (), elements)


def _stretched(each: Sizes, length: int) -> Elements:
    return each.elements * length if len(each.elements) == 1 else each.elements


def _quotient(dividend: int, divisor: int) -> int | None:
    """Towards zero, as C has it."""
    if not divisor:
        return None
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def _bounded(number: int) -> int | None:
    return number if abs(number) < 2**63 else None


_ARITHMETIC: Mapping[str, Callable[[int, int], int | None]] = {
    "Add": lambda a, b: _bounded(a + b),
    "Sub": lambda a, b: _bounded(a - b),
    "Mul": lambda a, b: _bounded(a * b),
    "Div": _quotient,
}
_RULES: Mapping[str, Callable[[Operation, list[Sizes]], Sizes | None]] = {
    "Identity": _same,
    "Cast": _cast,
    "Size": _number,
    "Range": _range,
    "Gather": _gather,
    "Unsqueeze": _flat,
    "Squeeze": _flat,
    "Reshape": _reshape,
    "Concat": _concat,
    "Slice": _slice,
    "Transpose": _transpose,
    "Expand": _expand,
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
}
