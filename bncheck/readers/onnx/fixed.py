"""Nodes that cannot change, for what they are made of serves elsewhere too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable

from bncheck.graph import Node
from bncheck.readers.onnx.operation import Operation
from bncheck.readers.onnx.proto import ModelProto

FIRST_IR_WITH_FREE_INITIALIZERS = 4


def fixed(made: Iterable[tuple[Node, Operation]], proto: ModelProto) -> dict[Node, str]:
    """Of nodes and the operations they are made of, those that cannot change, and why."""
    pairs = [(node, each.proto) for node, each in made if each.proto is not None]
    calls = Counter(id(each) for _, each in pairs)
    replaceable = overridable(proto, calls)
    found: dict[Node, str] = {}
    for node, each in pairs:
        if calls[id(each)] > 1:
            found[node] = "several-calls"
        elif not replaceable.isdisjoint(each.inputs):
            found[node] = "overridable"
    return found


def overridable(proto: ModelProto, made: Container[int]) -> frozenset[str]:
    """Constants that the caller may replace: since IR version 4 initializers that are inputs.

    What is made of one counts too, by nodes of which no node of the graph was ``made``.
    """
    if proto.ir_version < FIRST_IR_WITH_FREE_INITIALIZERS:
        return frozenset()
    main = proto.graph
    found = {*main.inputs} & {tensor.name for tensor in main.initializers}
    for node in main.nodes if found else ():
        if id(node) not in made and not found.isdisjoint(node.inputs):
            found |= {*node.outputs}
    return frozenset(found)
