"""Walks protobuf's wire format, https://protobuf.dev/programming-guides/encoding.

Only tags and lengths are read; a payload is a span of the source until somebody asks for it. A
message is described by the wire types of the fields that matter; all others are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, NoReturn

from bncheck.errors import UnreadableModel
from bncheck.readers.source import Source

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# What a field may be on the wire, as a set of bits. A repeated number may come packed or not.
INTEGER = 1 << VARINT
FLOAT = 1 << FIXED32
PAYLOAD = 1 << BYTES  # text, bytes or a message
INTEGERS = INTEGER | PAYLOAD
FLOATS = FLOAT | PAYLOAD
DOUBLES = 1 << FIXED64 | PAYLOAD

_SIZES = {FIXED32: 4, FIXED64: 8}

Wires = Mapping[int, int]

FIRST_READ = 2 << 10  # after a skip: shows the header of a tensor and a small payload
LARGEST_READ = 64 << 10  # reached by doubling, while reading goes on without skips
LONGEST_HEADER = 20  # a tag and a number or length, ten bytes each
LONGEST_WORD = 64
LONGEST_TEXT = 1 << 20
LONGEST_QUOTE = 80
BUDGET = 12_000_000  # fields; what is kept counts as several, by the memory that it takes
KEPT_TEXT = 5
ADVICE = "download it again, or export it again"


class Span(NamedTuple):
    """Where bytes lie in the source: ``begin`` up to, but not including, ``end``."""

    begin: int
    end: int


class Walker:
    """Reads messages of a source through one window that grows while reading is sequential."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._base = 0
        self._data = b""
        self._chunk = FIRST_READ
        self._spent = 0
        self._words: dict[bytes, str] = {}

    def fields(self, span: tuple[int, int], wires: Wires) -> Iterator[tuple[int, int, int]]:
        """The known fields of one message, in order: number, value, end.

        ``value`` is the unsigned number of a varint, whose ``end`` is -1; otherwise the two are a
        span. Raises UnreadableModel for what is no sound protobuf: lengths beyond the message,
        overlong numbers, groups, a wire type that the field cannot have, too many fields.
        """
        at, end = span
        data, base, last = self._window(at)
        while at < end:
            if at - base > last:
                data, base, last = self._window(at)
            self._spent += 1
            try:
                tag, value, index = header(data, at - base, base)
            except IndexError:
                truncated(self.source.size)
            number, wire = tag >> 3, tag & 7
            begin = base + index
            at = begin if wire == VARINT else begin + value
            if at > end:
                self._overrun(at, end)
            allowed = wires.get(number)
            if allowed is None:
                continue
            if not allowed >> wire & 1:
                damaged(begin, f"field {number} with the wrong type")
            if wire == VARINT:
                yield number, value, -1
            else:
                yield number, begin, at

    def payload(self, span: tuple[int, int]) -> bytes:
        """The bytes of a span, from the window where it covers them."""
        begin, end = span
        if begin < self._base or end > self._base + len(self._data):
            if end - begin > FIRST_READ:
                return self.source.read(begin, end - begin)
            self._read(begin)
        return self._data[begin - self._base : end - self._base]

    def text(self, span: tuple[int, int]) -> str:
        """A UTF-8 string of at most LONGEST_TEXT bytes; raises UnreadableModel for others."""
        length = span[1] - span[0]
        if length > LONGEST_TEXT:
            damaged(span[0], "a name that is a million bytes long")
        self._spent += KEPT_TEXT + (length >> 4)
        try:
            return self.payload(span).decode()
        except UnicodeDecodeError:
            damaged(span[0], "a name that is no UTF-8")

    def word(self, span: tuple[int, int]) -> str:
        """Text that is likely to come again: equal words are one object."""
        data = self.payload(span) if span[1] - span[0] <= LONGEST_WORD else b""
        known = self._words.get(data)
        if known is None:
            known = self.text(span)
            if data:
                self._words[data] = known
        return known

    def charge(self, count: int) -> None:
        """Count something that costs as much as that many fields, against one budget."""
        self._spent += count
        if self._spent > BUDGET:
            raise UnreadableModel("holds more nodes, tensors and names than any model does")

    def _window(self, at: int) -> tuple[bytes, int, int]:
        """Bytes around a position, where they begin, and the last index with a whole header."""
        self.charge(0)
        if not self._base <= at <= self._base + len(self._data) - LONGEST_HEADER:
            self._read(at)
        data = self._data
        at_end = self._base + len(data) == self.source.size
        return data, self._base, len(data) - (0 if at_end else LONGEST_HEADER)

    def _read(self, at: int) -> None:
        gap = abs(at - self._base - len(self._data))
        self._chunk = min(2 * self._chunk, LARGEST_READ) if gap <= self._chunk else FIRST_READ
        self._data = self.source.read(at, min(self._chunk, self.source.size - at))
        self._base = at

    def _overrun(self, at: int, end: int) -> NoReturn:
        if end == self.source.size:
            truncated(end)
        damaged(end, "a field that is longer than what holds it")


def header(data: bytes, at: int, base: int = 0) -> tuple[int, int, int]:
    """A field's tag, its number (VARINT) or length, and the index after these.

    Raises IndexError where they are cut off; ``base`` is for messages.
    """
    tag = data[at]
    at += 1
    if tag > 127:
        tag, at = varint(data, at - 1, base)
    wire = tag & 7
    if wire in _SIZES:
        value = _SIZES[wire]
    elif wire in (VARINT, BYTES):
        value = data[at]
        at += 1
        if value > 127:
            value, at = varint(data, at - 1, base)
    else:
        damaged(base + at, "a field of unknown type")
    if not 8 <= tag < 1 << 32:
        damaged(base + at, "a field with no number that is allowed")
    return tag, value, at


def varint(data: bytes, at: int, base: int = 0) -> tuple[int, int]:
    """An unsigned number of at most 64 bits, and the index after it; ``base`` is for messages."""
    value = shift = 0
    byte = 128
    while byte > 127:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if shift > 70 or value >> 64:
            damaged(base + at, "a number of more than 64 bits")
    return value, at


def signed(value: int) -> int:
    """A varint as int64, in two's complement."""
    return value - (1 << 64) if value >> 63 else value


def packed(data: bytes) -> Iterator[int]:
    """The unsigned numbers of a packed field."""
    at = 0
    while at < len(data):
        try:
            value, at = varint(data, at)
        except IndexError:
            damaged(at, "a number that is cut off")
        yield value


def quoted(text: str) -> str:
    """Text of a file for a message: on one line, and not too long."""
    return repr(brief(text))


def brief(value: object) -> str:
    """What stands for a value in a message: as much of it as fits."""
    text = str(value)
    return text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "..."


def damaged(at: int, what: str) -> NoReturn:
    """Refuse what is no sound protobuf; ``at`` is a byte of the source."""
    raise UnreadableModel(f"is damaged: {what}, at byte {at}; {ADVICE}")


def truncated(size: int) -> NoReturn:
    """Refuse a source that ends too early."""
    raise UnreadableModel(f"is truncated: it ends at byte {size}, in the middle of it; {ADVICE}")
