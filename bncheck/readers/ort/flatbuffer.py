"""Walks FlatBuffers, https://flatbuffers.dev/internals: tables, vectors and strings of a source.

References lead forwards only, so that nothing can hold itself. But several may lead to one place,
and a file of a few kilobytes could unfold without end: all that is read out must fit into the file
together, as it does where each thing is stored once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from struct import Struct, iter_unpack
from typing import cast

from bncheck.readers.ort.budget import Budget, damaged
from bncheck.readers.source import Source

INT8, INT32, UINT32, INT64, FLOAT = map(Struct, ("<b", "<i", "<I", "<q", "<f"))
_LENGTH = UINT32.size  # of a vector or string, before its elements

BLOCK = 4 << 10
OVERLAP = 64  # what begins in a block and is no longer than this is read from it
MOST_BLOCKS = 256
LARGEST_TABLE = 1 << 10  # bytes; a field takes eight at most
MOST_LAYOUTS = 1 << 12  # vtables that are kept
LONG_TEXT, LONGEST_TEXT = 64, 1 << 20


class Buffer:
    """Reads a source in blocks, within one budget for the whole file."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._blocks: dict[int, bytes] = {}
        self._layouts: dict[int, tuple[int, ...]] = {}
        self._texts: dict[int, str] = {}
        self.budget = Budget(source.size)

    def root(self) -> Table:
        """The outermost table."""
        return self.table(self._offset(0))

    def table(self, at: int) -> Table:
        """The table at a place. Raises UnreadableModel where there is none."""
        layout = self._layout(at - INT32.unpack(self._read(at, INT32.size))[0])
        inline = self._read(at, layout[0])
        self.budget.read_table(len(inline))
        return Table(self, at, inline, layout)

    def text(self, at: int) -> str:
        """The UTF-8 string at a place; it may be shared. One with a NUL has two readings."""
        known = self._texts.get(at)
        if known is not None:
            return known
        begin, length = self.vector(at, 1)
        if length > LONGEST_TEXT:
            damaged(at, "a name that is a million bytes long")
        self.budget.keep(1 + length // LONG_TEXT)
        try:
            text = self._read(begin, length).decode()
        except UnicodeDecodeError:
            damaged(at, "a name that is no UTF-8")
        if "\0" in text:
            damaged(at, "a name with a NUL in it")
        self._texts[at] = text
        return text

    def vector(self, at: int, size: int) -> tuple[int, int]:
        """Where the elements of a vector begin, each so many bytes long, and their number."""
        count = self.length(at)
        begin = at + _LENGTH
        if begin + count * size > self.source.size:
            damaged(at, "a vector that is longer than the file")
        self.budget.spend(_LENGTH + count * size)
        return begin, count

    def elements(self, at: int, layout: Struct) -> Iterator[tuple[int, int | float]]:
        """The numbers of a vector, each with its place."""
        begin, count = self.vector(at, layout.size)
        self.budget.read_elements(count)
        data = self._read(begin, count * layout.size)
        places = range(begin, begin + len(data), layout.size)
        numbers = (number for (number,) in iter_unpack(layout.format, data))
        return zip(places, numbers, strict=True)

    def payload(self, at: int, length: int) -> bytes:
        """The first bytes of a vector or string of bytes, at most so many."""
        begin, count = self.vector(at, 1)
        return self._read(begin, min(count, length))

    def length(self, at: int) -> int:
        """How many elements a vector has."""
        return int(UINT32.unpack(self._read(at, _LENGTH))[0])

    def _offset(self, at: int) -> int:
        (offset,) = UINT32.unpack(self._read(at, UINT32.size))
        return target(at, int(offset))

    def _layout(self, at: int) -> tuple[int, ...]:
        """The vtable at a place: the size of a table, then where each field is, 0 for nowhere."""
        known = self._layouts.get(at)
        if known is not None:
            return known
        if not 0 <= at <= self.source.size - 4:
            damaged(max(at, 0), "a table whose layout lies outside the file")
        own, size = struct.unpack("<HH", self._read(at, 4))
        if own < 4 or own % 2 or own > LARGEST_TABLE or not 4 <= size <= LARGEST_TABLE:
            damaged(at, "a table of impossible size")
        fields = struct.unpack(f"<{own // 2 - 2}H", self._read(at + 4, own - 4))
        if any(offset and not 4 <= offset < size for offset in fields):
            damaged(at, "a field outside its table")
        if len(self._layouts) >= MOST_LAYOUTS:
            self._layouts.clear()
        self._layouts[at] = size, *fields
        return self._layouts[at]

    def _read(self, at: int, length: int) -> bytes:
        number, begin = divmod(at, BLOCK)
        block = self._blocks.get(number)
        if block is None:
            block = self._load(number)
        end = begin + length
        return block[begin:end] if end <= len(block) else self.source.read(at, length)

    def _load(self, number: int) -> bytes:
        if len(self._blocks) >= MOST_BLOCKS:
            self._blocks.clear()
        offset = number * BLOCK
        length = max(0, min(BLOCK + OVERLAP, self.source.size - offset))
        self._blocks[number] = self.source.read(offset, length) if length else b""
        return self._blocks[number]


class Table:
    """One table; fields are known by their position in the schema."""

    __slots__ = ("_buffer", "_fields", "_inline", "at", "budget")

    def __init__(self, buffer: Buffer, at: int, inline: bytes, fields: tuple[int, ...]) -> None:
        self.at = at
        self.budget = buffer.budget
        self._buffer = buffer
        self._inline = inline
        self._fields = fields

    @property
    def end(self) -> int:
        """The place after the table."""
        return self.at + len(self._inline)

    def number(self, field: int, layout: Struct, default: float = 0) -> int | float:
        """A number, or what the schema says it is where it is not stored."""
        offset = self._place(field)
        if not offset:
            return default
        try:
            return cast("int | float", layout.unpack_from(self._inline, offset)[0])
        except struct.error:
            damaged(self.at, "a field outside its table")

    def integer(self, field: int, layout: Struct, default: int = 0) -> int:
        """The same for whole numbers."""
        return int(self.number(field, layout, default))

    def reference(self, field: int) -> int | None:
        """Where a table, vector or string lies; None where there is none."""
        offset = self._place(field)
        return target(self.at + offset, self.integer(field, UINT32)) if offset else None

    def table(self, field: int) -> Table | None:
        """A table in a field."""
        at = self.reference(field)
        return None if at is None else self._buffer.table(at)

    def tables(self, field: int) -> Iterator[Table]:
        """The tables of a vector."""
        return map(self._buffer.table, self._references(field))

    def text(self, field: int) -> str:
        """A string, "" where there is none."""
        at = self.reference(field)
        return "" if at is None else self._buffer.text(at)

    def texts(self, field: int) -> list[str]:
        """The strings of a vector."""
        return [*map(self._buffer.text, self._references(field))]

    def numbers(
        self, field: int, layout: Struct, longest: int | None = None
    ) -> tuple[int | float, ...] | None:
        """The numbers of a vector; None where there is none, or it is longer (in bytes)."""
        at = self.reference(field)
        if at is None or (longest and self._buffer.length(at) * layout.size > longest):
            return None
        return tuple(number for _, number in self._buffer.elements(at, layout))

    def payload(self, field: int, length: int) -> bytes:
        """The first bytes of a string, at most so many; none where there is no string."""
        at = self.reference(field)
        return b"" if at is None else self._buffer.payload(at, length)

    def span(self, field: int) -> tuple[int, int] | None:
        """Begin and end of a vector of bytes; None where there is none."""
        at = self.reference(field)
        if at is None:
            return None
        begin, length = self._buffer.vector(at, 1)
        return begin, begin + length

    def _references(self, field: int) -> Iterator[int]:
        at = self.reference(field)
        if at is None:
            return iter(())
        return (target(at, int(offset)) for at, offset in self._buffer.elements(at, UINT32))

    def _place(self, field: int) -> int:
        fields = self._fields
        return fields[field + 1] if field + 1 < len(fields) else 0


def target(at: int, offset: int) -> int:
    """Where a reference leads; raises UnreadableModel for one to itself."""
    if not offset:
        damaged(at, "a reference that leads nowhere")
    return at + offset
