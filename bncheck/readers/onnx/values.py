"""The values of ONNX tensors, read from the message or from the external file on first touch."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.readers.limits import ElementBudget
from bncheck.readers.onnx.protobuf import (
    DOUBLES,
    FLOATS,
    INTEGERS,
    Walker,
    brief,
    packed,
    quoted,
    signed,
)
from bncheck.readers.onnx.tensor import DataField, TensorProto
from bncheck.readers.source import Source
from bncheck.tensor import DTYPES, Tensor, decode

# Where values lie that are not raw; those of all other types lie in int32_data.
_FIELDS = {
    "float32": DataField.FLOAT,
    "float64": DataField.DOUBLE,
    "int64": DataField.INT64,
    "uint64": DataField.UINT64,
    "uint32": DataField.UINT64,
}
_WIRES = {DataField.FLOAT: FLOATS, DataField.DOUBLE: DOUBLES}


class Storage:
    """Where the values of a model's tensors lie: its own source, and files beside it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._budget = ElementBudget()
        self._latest: tuple[str, Source] | None = None  # one: a model may have a file per tensor

    def tensor(self, proto: TensorProto, key: Hashable) -> Tensor:
        """A tensor that reads its values from here when they are touched."""
        return Tensor(proto.shape, proto.dtype, _Values(self, proto), key)

    def load(self, proto: TensorProto) -> array[float]:
        """The values of a tensor; raises as Tensor says."""
        if proto.sparse:
            raise UnknownFact(Unknown("values", "stored as a sparse tensor"))
        if proto.dtype not in DTYPES:
            raise UnknownFact(Unknown("values", f"bncheck does not decode {proto.dtype}"))
        if proto.segmented:
            raise UnreadableModel(
                f"holds tensor {quoted(proto.name)} in segments, which nothing reads"
            )
        self._budget.decode(math.prod(proto.shape))
        if proto.external is not None:
            return self._load_external(proto, proto.external)
        if proto.raw is not None:
            return decode(self._source.read(proto.raw.begin, _nbytes(proto)), proto.dtype)
        return _load_typed(self._source, proto)

    def _load_external(self, proto: TensorProto, entries: dict[str, str]) -> array[float]:
        wanted = _nbytes(proto)
        if external_number(entries.get("length", str(wanted)), proto) != wanted:
            raise UnreadableModel(f"gives the external data of {quoted(proto.name)} another size")
        offset = external_number(entries.get("offset", "0"), proto)
        location = entries.get("location", "")
        source = self._sibling(location)
        try:
            return decode(source.read(offset, wanted), proto.dtype)
        except UnreadableModel as error:
            raise UnreadableModel(
                f"external data file {quoted(location)} {error.reason}"
            ) from error

    def _sibling(self, location: str) -> Source:
        latest = self._latest
        if latest is not None and latest[0] == location:
            return latest[1]
        source = self._source.sibling(location) if location else None
        if source is None:
            raise UnreadableModel(
                f"external data file {quoted(location)} is missing beside the model; copy it there"
            )
        self._latest = location, source
        return source


@dataclass(slots=True, eq=False)
class _Values:
    """Called, it reads: a model may have very many tensors that nobody touches."""

    storage: Storage
    proto: TensorProto

    def __call__(self) -> array[float]:
        return self.storage.load(self.proto)


def _load_typed(source: Source, proto: TensorProto) -> array[float]:
    expected = _FIELDS.get(proto.dtype, DataField.INT32)
    if proto.held not in (None, expected):
        raise UnreadableModel(
            f"stores tensor {quoted(proto.name)} in a way that is not for {proto.dtype}"
        )
    read = _fixed if expected in _WIRES else _varints
    values = read(source, proto, expected)
    if len(values) != math.prod(proto.shape):
        raise UnreadableModel(
            f"is damaged: tensor {quoted(proto.name)} of shape {brief([*proto.shape])} "
            f"holds {len(values)} values"
        )
    return values


def _fixed(source: Source, proto: TensorProto, number: DataField) -> array[float]:
    walker = Walker(source)
    spans = ((v, end) for _, v, end in walker.fields(proto.span, {number: _WIRES[number]}))
    data = b"".join(map(walker.payload, spans))
    if len(data) % DTYPES[proto.dtype][0]:
        raise UnreadableModel(f"is damaged: tensor {quoted(proto.name)} ends within a number")
    return decode(data, proto.dtype)


def _varints(source: Source, proto: TensorProto, number: DataField) -> array[float]:
    walker = Walker(source)
    convert = _CONVERSIONS[number]
    bits = DTYPES[proto.dtype][1] or "H"  # 16-bit floats lie there as their bits
    try:
        raw: array[float] = array(bits, map(convert, _numbers(walker, proto, number)))
    except OverflowError:
        raise UnreadableModel(
            f"is damaged: tensor {quoted(proto.name)} holds what is no {proto.dtype}"
        ) from None
    return decode(raw.tobytes(), proto.dtype, sys.byteorder)


def _numbers(walker: Walker, proto: TensorProto, number: DataField) -> Iterator[int]:
    """The unsigned numbers of a repeated field, of which some may be packed."""
    for _, value, end in walker.fields(proto.span, {number: INTEGERS}):
        if end == -1:
            yield value
        else:
            yield from packed(walker.payload((value, end)))


def _int32(value: int) -> int:
    """Protobuf keeps the low 32 bits of an int32, whatever came over the wire."""
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


_CONVERSIONS: dict[DataField, Callable[[int], int]] = {
    DataField.INT32: _int32,
    DataField.INT64: signed,
    DataField.UINT64: int,
}


def _nbytes(proto: TensorProto) -> int:
    return math.prod(proto.shape) * DTYPES[proto.dtype][0]


def external_number(text: str, proto: TensorProto) -> int:
    """An offset or length. Raises UnreadableModel for what is none."""
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise UnreadableModel(f"gives no sound place for the external data of {quoted(proto.name)}")
    return int(text)
