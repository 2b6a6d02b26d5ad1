"""Puts nodes in an order in which they can run: optimizers list those that they make last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

from bncheck.errors import UnreadableModel
from bncheck.readers.onnx.proto import NodeProto


class _State(IntEnum):
    NEW = 0
    WAITING = 1
    PLACED = 2


def in_execution_order(nodes: Sequence[tuple[NodeProto, Iterable[str]]]) -> list[NodeProto]:
    """The nodes as they are listed, but what makes a value before what reads it.

    Each comes with the names that its bodies read. Raises UnreadableModel for a cycle.
    """
    makers = {name: index for index, (node, _) in enumerate(nodes) for name in node.outputs if name}
    reads = [
        {makers[name] for name in (*node.inputs, *captured) if name in makers}
        for node, captured in nodes
    ]
    return [nodes[index][0] for index in _sorted(reads)]


def _sorted(reads: Sequence[set[int]]) -> list[int]:
    """Indices, each after those that it reads; depth first, without recursion."""
    states = [_State.NEW] * len(reads)
    placed: list[int] = []
    for first in range(len(reads)):
        stack = [first]
        while stack:
            index = stack[-1]
            if states[index] is _State.PLACED:
                stack.pop()
                continue
            missing = [each for each in reads[index] if states[each] is not _State.PLACED]
            if not missing:
                states[index] = _State.PLACED
                placed.append(stack.pop())
            elif states[index] is _State.WAITING:  # for itself: what it reads was tried before
                raise UnreadableModel("is no graph that can run: a value is made from itself")
            else:
                states[index] = _State.WAITING
                stack += sorted(missing, reverse=True)
    return placed
