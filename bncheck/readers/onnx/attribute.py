"""The attributes of ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from struct import iter_unpack

from bncheck.errors import UnreadableModel
from bncheck.readers.onnx.protobuf import (
    FLOAT,
    FLOATS,
    INTEGER,
    INTEGERS,
    PAYLOAD,
    Span,
    Walker,
    Wires,
    quoted,
    signed,
)
from bncheck.readers.onnx.tensor import TensorProto, integers, read_sparse_tensor, read_tensor

Value = (
    float | int | str | TensorProto | Span | tuple[float, ...] | tuple[int, ...] | tuple[Span, ...]
)
Items = list[tuple[int, int]]

LONGEST_LIST = 64 << 10  # bytes; what is longer is data (a forest's trees), no argument of a layer
LONGEST_STRING = 1 << 10
COST_OF_ATTRIBUTE = 12  # as COST


class Held(IntEnum):
    """What an attribute holds: the fields of an AttributeProto that may have its value."""

    FLOAT = 2
    INT = 3
    STRING = 4
    TENSOR = 5
    GRAPH = 6
    FLOATS = 7
    INTS = 8
    STRINGS = 9
    TENSORS = 10
    GRAPHS = 11
    TYPE = 14
    TYPES = 15
    SPARSE_TENSOR = 22
    SPARSE_TENSORS = 23


@dataclass(slots=True)
class Attribute:
    """One attribute. ``value`` is None where bncheck has no use for it.

    ``reference`` names the attribute of the enclosing function that stands in for this one.
    """

    name: str
    held: Held | None
    value: Value | None
    reference: str = ""


_NAME, _TYPE, _REFERENCE = 1, 20, 21
_ATTRIBUTE: Wires = {
    **dict.fromkeys(map(int, Held), PAYLOAD),
    _NAME: PAYLOAD,
    _TYPE: INTEGER,
    _REFERENCE: PAYLOAD,
    Held.FLOAT: FLOAT,
    Held.INT: INTEGER,
    Held.FLOATS: FLOATS,
    Held.INTS: INTEGERS,
}
_LISTS = frozenset({Held.FLOATS, Held.INTS, Held.STRINGS})
# AttributeProto.AttributeType
_TYPES = {
    1: Held.FLOAT,
    2: Held.INT,
    3: Held.STRING,
    4: Held.TENSOR,
    5: Held.GRAPH,
    6: Held.FLOATS,
    7: Held.INTS,
    8: Held.STRINGS,
    9: Held.TENSORS,
    10: Held.GRAPHS,
    11: Held.SPARSE_TENSOR,
    12: Held.SPARSE_TENSORS,
    13: Held.TYPE,
    14: Held.TYPES,
}
# Some writers leave out what is zero or empty.
_ZEROS: dict[Held | None, Value] = {
    Held.FLOAT: 0.0,
    Held.INT: 0,
    Held.STRING: "",
    Held.FLOATS: (),
    Held.INTS: (),
}


def read_attribute(walker: Walker, span: Span) -> Attribute:
    """An AttributeProto. Raises UnreadableModel where it holds two values, or not what it says."""
    name = reference = ""
    walker.charge(COST_OF_ATTRIBUTE)
    declared = held = 0
    items: Items = []
    long = span.end - span.begin > LONGEST_LIST
    for number, value, end in walker.fields(span, _ATTRIBUTE):
        if number == _NAME:
            name = walker.word((value, end))
        elif number == _TYPE:
            declared = value
        elif number == _REFERENCE:
            reference = walker.text((value, end))
        elif held and number != held:
            raise UnreadableModel(f"holds two values for one attribute {quoted(name)}")
        else:
            held = number
            items.append((value, end))
            if long and held in _LISTS:
                return Attribute(name, Held(held), None)
    kind = _kind(name, declared, held)
    return Attribute(name, kind, _value(walker, kind, items), reference)


def _kind(name: str, declared: int, held: int) -> Held | None:
    kind = _TYPES.get(declared)
    if held and declared and kind != held:
        raise UnreadableModel(f"gives attribute {quoted(name)} another type than its value has")
    return Held(held) if held else kind


def _value(walker: Walker, kind: Held | None, items: Items) -> Value | None:
    if not items:
        return _ZEROS.get(kind)
    read = _READERS.get(kind)
    return read(walker, items) if read else None


def _float(walker: Walker, items: Items) -> float:
    return _floats(walker, items)[-1]


def _floats(walker: Walker, items: Items) -> tuple[float, ...]:
    data = b"".join(map(walker.payload, items))
    if len(data) % 4:
        raise UnreadableModel("is damaged: a list of floats ends within a number")
    return tuple(number for (number,) in iter_unpack("<f", data))


def _int(walker: Walker, items: Items) -> int:
    return signed(items[-1][0])


def _ints(walker: Walker, items: Items) -> tuple[int, ...]:
    return tuple(each for value, end in items for each in integers(walker, value, end))


def _string(walker: Walker, items: Items) -> str | None:
    begin, end = items[-1]
    if end - begin > LONGEST_STRING:
        return None
    return walker.payload((begin, end)).decode(errors="replace")


def _spans(walker: Walker, items: Items) -> tuple[Span, ...]:
    return tuple(Span(*item) for item in items)


def _graph(walker: Walker, items: Items) -> Span:
    return _only(items)


def _tensor(walker: Walker, items: Items) -> TensorProto:
    return read_tensor(walker, _only(items))


def _sparse_tensor(walker: Walker, items: Items) -> TensorProto:
    return read_sparse_tensor(walker, _only(items))


def _only(items: Items) -> Span:
    if len(items) > 1:  # protobuf merges them, and others take the last
        raise UnreadableModel("holds two values for one attribute")
    return Span(*items[0])


_READERS: dict[Held | None, Callable[[Walker, Items], Value | None]] = {
    Held.FLOAT: _float,
    Held.INT: _int,
    Held.STRING: _string,
    Held.TENSOR: _tensor,
    Held.GRAPH: _graph,
    Held.FLOATS: _floats,
    Held.INTS: _ints,
    Held.GRAPHS: _spans,
    Held.SPARSE_TENSOR: _sparse_tensor,
}
