"""ONNX's tensor messages: shape and type at once; the values stay spans of the source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from bncheck.errors import UnreadableModel
from bncheck.readers.onnx.protobuf import (
    DOUBLES,
    FLOATS,
    INTEGER,
    INTEGERS,
    PAYLOAD,
    Span,
    Walker,
    brief,
    packed,
    quoted,
    signed,
)
from bncheck.tensor import itemsize

# TensorProto.DataType, in order from 0
DATA_TYPES = [
    "undefined",
    "float32",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "float64",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8e4m3fn",
    "float8e4m3fnuz",
    "float8e5m2",
    "float8e5m2fnuz",
    "uint4",
    "int4",
    "float4e2m1",
    "float8e8m0",
    "uint2",
    "int2",
    "float6e2m3",
    "float6e3m2",
]
MOST_DIMENSIONS = 64
COST = 20  # memory of a message that is kept, in fields


class DataField(IntEnum):
    """The fields of a TensorProto that hold values."""

    FLOAT = 4
    INT32 = 5  # all small types too: float16 and bfloat16 as their bits
    STRING = 6
    INT64 = 7
    RAW = 9
    DOUBLE = 10
    UINT64 = 11


_DIMS, _TYPE, _SEGMENT, _NAME, _EXTERNAL, _LOCATION = 1, 2, 3, 8, 13, 14
_TENSOR = {
    _DIMS: INTEGERS,
    _TYPE: INTEGER,
    _SEGMENT: PAYLOAD,
    DataField.FLOAT: FLOATS,
    DataField.INT32: INTEGERS,
    DataField.STRING: PAYLOAD,
    DataField.INT64: INTEGERS,
    _NAME: PAYLOAD,
    DataField.RAW: PAYLOAD,
    DataField.DOUBLE: DOUBLES,
    DataField.UINT64: INTEGERS,
    _EXTERNAL: PAYLOAD,
    _LOCATION: INTEGER,
}
_SPARSE_VALUES, _SPARSE_DIMS = 1, 3
_SPARSE = {_SPARSE_VALUES: PAYLOAD, _SPARSE_DIMS: INTEGERS}

KEY, VALUE = 1, 2
ENTRY = {KEY: PAYLOAD, VALUE: PAYLOAD}  # StringStringEntryProto


@dataclass(slots=True)
class TensorProto:
    """A tensor without its values: ``held`` says which field of the message has them.

    ``external`` has the entries of external_data where the values lie in a file of their own.
    """

    span: Span
    name: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = "undefined"
    held: DataField | None = None
    raw: Span | None = None
    external: dict[str, str] | None = None
    sparse: bool = False
    segmented: bool = False


def read_tensor(walker: Walker, span: Span) -> TensorProto:
    """A TensorProto. Raises UnreadableModel where it holds its values twice, or not all."""
    tensor = TensorProto(span)
    walker.charge(COST)
    dims: list[int] = []
    entries: dict[str, str] = {}
    external = False
    for number, value, end in walker.fields(span, _TENSOR):
        if number == _DIMS:
            dims += integers(walker, value, end)
        elif number == _NAME:
            tensor.name = walker.text((value, end))
        elif number == _TYPE:
            tensor.dtype = data_type(value)
        elif number == _SEGMENT:
            tensor.segmented = True
        elif number == _EXTERNAL:
            _add(entries, *read_entry(walker, Span(value, end)))
        elif number == _LOCATION:
            external = value == 1
        elif end == -1 or end > value:
            _hold(tensor, DataField(number), Span(value, end))
    tensor.shape = shape(dims, tensor.name)
    tensor.external = entries if external else None
    require_one_place(tensor)
    return tensor


def read_sparse_tensor(walker: Walker, span: Span) -> TensorProto:
    """A SparseTensorProto, as a dense tensor whose values are not read."""
    values = TensorProto(span)
    dims: list[int] = []
    for number, value, end in walker.fields(span, _SPARSE):
        if number == _SPARSE_DIMS:
            dims += integers(walker, value, end)
        else:
            values = read_tensor(walker, Span(value, end))
    return TensorProto(span, values.name, shape(dims, values.name), values.dtype, sparse=True)


def read_entry(walker: Walker, span: Span) -> tuple[str, str]:
    """Key and value of a StringStringEntryProto."""
    texts = {number: walker.text((value, end)) for number, value, end in walker.fields(span, ENTRY)}
    return texts.get(KEY, ""), texts.get(VALUE, "")


def integers(walker: Walker, value: int, end: int) -> list[int]:
    """One int64 of a repeated field, or all of a packed one."""
    return [signed(value)] if end == -1 else [*map(signed, packed(walker.payload((value, end))))]


def shape(dims: list[int], name: str) -> tuple[int, ...]:
    """Dimensions that a tensor can have; raises UnreadableModel for others."""
    if len(dims) > MOST_DIMENSIONS or min(dims, default=0) < 0:
        raise UnreadableModel(f"gives tensor {quoted(name)} an impossible shape")
    return tuple(dims)


def data_type(number: int) -> str:
    """bncheck's name of a TensorProto.DataType."""
    return DATA_TYPES[number] if 0 <= number < len(DATA_TYPES) else f"type-{number}"


def _add(entries: dict[str, str], key: str, value: str) -> None:
    if entries.setdefault(key, value) != value:
        raise UnreadableModel(f"says twice where a tensor's external data has its {quoted(key)}")


def _hold(tensor: TensorProto, held: DataField, span: Span) -> None:
    if tensor.held not in (None, held) or tensor.raw:
        raise UnreadableModel(f"holds the values of tensor {quoted(tensor.name)} twice")
    tensor.held = held
    if held is DataField.RAW:
        tensor.raw = span


def require_one_place(tensor: TensorProto) -> None:
    """Raise UnreadableModel for values that are stored twice, or in another number than said."""
    if tensor.external is not None and tensor.held is not None:
        raise UnreadableModel(f"holds the values of tensor {quoted(tensor.name)} twice")
    size = itemsize(tensor.dtype)
    if size and tensor.raw:
        held, wanted = tensor.raw.end - tensor.raw.begin, math.prod(tensor.shape) * size
        if held != wanted:
            raise UnreadableModel(
                f"is damaged: tensor {quoted(tensor.name)} of shape {brief([*tensor.shape])} "
                f"holds {held} bytes instead of {brief(wanted)}"
            )
