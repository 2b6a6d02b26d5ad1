"""Tells ONNX files from others: they have no magic number, only the fields of a ModelProto."""

from __future__ import annotations

from bncheck.errors import UnreadableModel
from bncheck.readers.onnx.protobuf import BYTES, LONGEST_HEADER, VARINT, header
from bncheck.readers.source import Source

IR_VERSION, PRODUCER, GRAPH, OPSET = 1, 2, 7, 8
MODEL_FIELDS = {
    **dict.fromkeys((IR_VERSION, 5), VARINT),
    **dict.fromkeys((PRODUCER, 3, 4, 6, GRAPH, OPSET, 14, 20, 25, 26), BYTES),
}
GRAPH_FIELDS = frozenset((1, 2, 5, 10, 11, 12, 13, 14, 15, 16))  # all of them BYTES
NEWEST_IR_VERSION = 1_000  # with plenty to come: there have been fourteen so far
LONGEST_PRODUCER = 200
MOST_FIELDS = 10_000


def looks_like_onnx(source: Source) -> bool:
    """Whether a file is a ModelProto with a graph, or begins as one and is cut off.

    Looks at the outermost fields and at the first of the graph. A file that ends before its graph
    counts where it has given its version and its producer.
    """
    seen: set[int] = set()
    at = 0
    for _ in range(MOST_FIELDS):
        if at >= source.size or _is_enough(seen):
            break
        try:
            number, wire, value, payload = _header(source, at)
        except IndexError:
            break
        except UnreadableModel:
            return False
        if not _fits(source, number, wire, value, payload):
            return False
        seen.add(number)
        at = payload + (value if wire == BYTES else 0)
    return _is_enough(seen) or (seen >= {IR_VERSION, PRODUCER} and at >= source.size)


def _is_enough(seen: set[int]) -> bool:
    return GRAPH in seen and not seen.isdisjoint((IR_VERSION, OPSET))


def _header(source: Source, at: int) -> tuple[int, int, int, int]:
    """A field's number, wire type, and number or length; and where its payload begins."""
    tag, value, index = header(source.read(at, min(LONGEST_HEADER, source.size - at)), 0)
    return tag >> 3, tag & 7, value, at + index


def _fits(source: Source, number: int, wire: int, value: int, payload: int) -> bool:
    if MODEL_FIELDS.get(number) != wire:
        return False
    if number == IR_VERSION:
        return 0 < value <= NEWEST_IR_VERSION
    if number == PRODUCER:
        return _is_printable(source, payload, value)
    return number != GRAPH or _begins_as_graph(source, payload, value)


def _is_printable(source: Source, at: int, length: int) -> bool:
    """A name; messages, which other formats have there, begin with a control character."""
    if length > LONGEST_PRODUCER:
        return False
    data = source.read(at, min(length, max(source.size - at, 0)))
    return data.decode(errors="ignore").isprintable()


def _begins_as_graph(source: Source, at: int, length: int) -> bool:
    if length == 0 or at >= source.size:
        return True
    first = source.read(at, 1)[0]
    return first >> 3 in GRAPH_FIELDS and first & 7 == BYTES
