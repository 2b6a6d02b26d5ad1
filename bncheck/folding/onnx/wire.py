"""Writes protobuf's wire format, and rewrites messages of which most stays as it is.

A rewritten message is a list of pieces: bytes, ranges of the source, and tensors that are made only
when they are written. So a model of any size is copied without being held.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from bncheck.readers.onnx.protobuf import BYTES, VARINT, Span, header
from bncheck.readers.source import Source

COPIED_AT_ONCE = 1 << 20
HEADER = 32  # more than a tag and a length take


@dataclass(frozen=True, slots=True)
class Late:
    """Bytes whose number is known, and which are made when they are written, in parts."""

    size: int
    make: Callable[[], Iterable[bytes]]


Piece = bytes | Span | Late


def size_of(pieces: Iterable[Piece]) -> int:
    """How many bytes pieces come to."""
    return sum(_size(piece) for piece in pieces)


def _size(piece: Piece) -> int:
    if isinstance(piece, Span):
        return piece.end - piece.begin
    return piece.size if isinstance(piece, Late) else len(piece)


def written(pieces: Iterable[Piece], source: Source) -> Iterator[bytes]:
    """The bytes of pieces, a part at a time."""
    for piece in pieces:
        if isinstance(piece, Span):
            for at in range(piece.begin, piece.end, COPIED_AT_ONCE):
                yield source.read(at, min(COPIED_AT_ONCE, piece.end - at))
        elif isinstance(piece, Late):
            left = piece.size
            for part in piece.make():
                left -= len(part)
                yield part
            assert not left
        else:
            yield piece


def varint(value: int) -> bytes:
    """A number; negative ones in two's complement of 64 bits."""
    value &= (1 << 64) - 1
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def number(tag: int, value: int) -> bytes:
    """An integer field."""
    return varint(tag << 3 | VARINT) + varint(value)


def text(tag: int, value: str) -> bytes:
    """A string field."""
    data = value.encode()
    return varint(tag << 3 | BYTES) + varint(len(data)) + data


def message(tag: int, pieces: list[Piece]) -> list[Piece]:
    """A field that holds pieces."""
    return [varint(tag << 3 | BYTES) + varint(size_of(pieces)), *pieces]


@dataclass(slots=True)
class Edits:
    """What becomes of messages, by where their payload lies in the source.

    ``replaced``: the pieces of a whole field instead of it, none to drop it. ``before``: pieces of
    fields that come before it. ``added``: pieces of fields at the end of a message. ``headed``:
    pieces at its begin, and the numbers of the fields that they replace.
    """

    replaced: dict[Span, list[Piece]] = field(default_factory=dict)
    before: dict[Span, list[Piece]] = field(default_factory=dict)
    added: dict[Span, list[Piece]] = field(default_factory=dict)
    headed: dict[Span, tuple[list[Piece], frozenset[int]]] = field(default_factory=dict)


class Rewriter:
    """Rewrites one message and those in it that edits touch."""

    def __init__(self, source: Source, edits: Edits) -> None:
        self._source = source
        self._edits = edits
        kinds: tuple[Mapping[Span, object], ...] = (
            edits.replaced,
            edits.before,
            edits.added,
            edits.headed,
        )
        self._begins = sorted(span.begin for kind in kinds for span in kind)

    def rewritten(self, span: Span) -> list[Piece]:
        """The payload of a message."""
        head, left_out = self._edits.headed.get(span, ([], frozenset()))
        pieces: list[Piece] = [*head]
        for tag, begin, at, end in _fields(self._source, span):
            payload = Span(at, end)
            if tag in left_out:
                continue
            pieces += self._edits.before.get(payload, [])
            if payload in self._edits.replaced:
                pieces += self._edits.replaced[payload]
            elif at < end and self._is_touched(payload):
                pieces += message(tag, self.rewritten(payload))
            else:
                _copy(pieces, Span(begin, end))
        return pieces + self._edits.added.get(span, [])

    def _is_touched(self, span: Span) -> bool:
        at = bisect_left(self._begins, span.begin)
        return at < len(self._begins) and self._begins[at] < span.end


def _copy(pieces: list[Piece], span: Span) -> None:
    """Add a range, as one with that before it where they touch."""
    last = pieces[-1] if pieces else None
    if isinstance(last, Span) and last.end == span.begin:
        pieces[-1] = Span(last.begin, span.end)
    else:
        pieces.append(span)


def _fields(source: Source, span: Span) -> Iterator[tuple[int, int, int, int]]:
    """Every field of a message: number, where it begins, its payload; numbers have none."""
    at = span.begin
    while at < span.end:
        data = source.read(at, min(HEADER, source.size - at))
        tag, value, length = header(data, 0, at)
        begin, payload = at, at + length
        at = payload if tag & 7 == VARINT else payload + value
        yield tag >> 3, begin, payload, at
