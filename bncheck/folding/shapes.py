"""Shapes of values: what a graph states, and what parameters say of the data that they meet."""

from __future__ import annotations

from collections.abc import Mapping

from bncheck.folding.arguments import flag, integer
from bncheck.graph import Graph, Node, NodeKind, Shape
from bncheck.tensor import Tensor

K = NodeKind


def shapes(graph: Graph) -> Mapping[str, Shape]:
    """The shape of each value of which at least the rank is known."""
    known = dict(graph.shapes)
    for node in graph.nodes:
        _note_inputs(known, node)
    return known


def _note(known: dict[str, Shape], value: str, shape: Shape | None) -> None:
    """Add what is new of a shape; what the file says stays."""
    before = known.get(value)
    if shape is None or not value or (before is not None and len(before) != len(shape)):
        return
    if before is not None:
        shape = tuple(b if a is None else a for a, b in zip(before, shape, strict=True))
    known[value] = shape


def _note_inputs(known: dict[str, Shape], node: Node) -> None:
    """What an operator's parameters say of the data that it reads."""
    weight, data = node.parameters.get("weight"), next(iter(node.inputs), "")
    if not isinstance(weight, Tensor) or not data:
        return
    if node.kind in (K.CONV, K.CONV_TRANSPOSE) and len(weight.shape) > 2:
        channels = weight.shape[0] if node.kind is K.CONV_TRANSPOSE else _taken(node, weight)
        _note(known, data, (None, channels, *[None] * (len(weight.shape) - 2)))
    elif node.kind is K.LINEAR and data in known and len(weight.shape) == 2 and known[data]:
        _note(known, data, (*known[data][:-1], weight.shape[flag(node, "transB")]))
    elif node.kind is K.BATCH_NORM and len(known.get(data, ())) > 1:
        _note(known, data, (None, weight.numel, *[None] * (len(known[data]) - 2)))


def _taken(node: Node, weight: Tensor) -> int | None:
    groups = integer(node, "groups")
    return weight.shape[1] * groups if groups else None
