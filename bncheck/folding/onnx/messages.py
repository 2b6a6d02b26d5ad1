"""The messages of onnx.proto that folding writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from bncheck.folding.onnx.wire import Piece, message, number, text
from bncheck.readers.onnx.protobuf import PAYLOAD, Span, Walker
from bncheck.readers.onnx.tensor import DATA_TYPES

GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_VALUE_INFO = 1, 5, 11, 13
GRAPH_OUTPUT = 12
FUNCTION_NODE = 7
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 3, 4, 5, 7
NODE_WIRING = frozenset({NODE_INPUT, NODE_OUTPUT})
NODE_KIND = frozenset({NODE_OP, NODE_ATTRIBUTE, NODE_DOMAIN})
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9
TENSOR_EXTERNAL, TENSOR_LOCATION = 13, 14
EXTERNAL = 1


class Info(NamedTuple):
    """A ValueInfoProto of a graph: the field it is in, where it lies, the value's name."""

    field: int
    span: Span
    name: str


def infos(walker: Walker, graph: Span) -> Iterator[Info]:
    """What a graph says of its inputs and of values between nodes."""
    wires = {GRAPH_INPUT: PAYLOAD, GRAPH_VALUE_INFO: PAYLOAD}
    found = [(field, Span(at, end)) for field, at, end in walker.fields(graph, wires)]
    for field, span in found:
        names = [Span(at, end) for _, at, end in walker.fields(span, {1: PAYLOAD})]
        yield Info(field, span, walker.text(names[0]) if names else "")


def node_head(inputs: Sequence[str], outputs: Sequence[str], op: str | None) -> list[Piece]:
    """The fields that say how a node is wired and, unless it stays the same, what it is."""
    fields = [text(NODE_INPUT, name) for name in inputs]
    fields += [text(NODE_OUTPUT, name) for name in outputs]
    return [b"".join(fields + ([] if op is None else [text(NODE_OP, op)]))]


def tensor(name: str, shape: Iterable[int], dtype: str, values: list[Piece]) -> list[Piece]:
    """A TensorProto whose values are fields of their own: raw or external data."""
    head = b"".join(number(TENSOR_DIMS, size) for size in shape)
    head += number(TENSOR_TYPE, DATA_TYPES.index(dtype)) + text(TENSOR_NAME, name)
    return [head, *values]


def raw(values: Piece) -> list[Piece]:
    """The values of a tensor, in the message itself."""
    return message(TENSOR_RAW, [values])


def external(location: str, offset: int, length: int) -> list[Piece]:
    """The values of a tensor, in a file beside the model."""
    entries = {"location": location, "offset": str(offset), "length": str(length)}
    pieces: list[Piece] = []
    for key, value in entries.items():
        pieces += message(TENSOR_EXTERNAL, [text(1, key) + text(2, value)])
    return [*pieces, number(TENSOR_LOCATION, EXTERNAL)]


def constant_node(field: int, output: str, value: list[Piece]) -> list[Piece]:
    """A Constant node as a field of a graph or function."""
    attribute: list[Piece] = [
        text(1, "value"),
        *message(5, value),
        number(20, 4),  # AttributeProto.TENSOR
    ]
    head = text(NODE_OUTPUT, output) + text(NODE_OP, "Constant")
    return message(field, [head, *message(NODE_ATTRIBUTE, attribute)])


def value_info(field: int, name: str, shape: Iterable[int], dtype: str) -> list[Piece]:
    """A ValueInfoProto of a tensor."""
    dimensions = b"".join(_field(1, number(1, size)) for size in shape)
    kind = _field(1, number(1, DATA_TYPES.index(dtype)) + _field(2, dimensions))
    return message(field, [text(1, name) + _field(2, kind)])


def _field(tag: int, payload: bytes) -> bytes:
    return b"".join(piece for piece in message(tag, [payload]) if isinstance(piece, bytes))
