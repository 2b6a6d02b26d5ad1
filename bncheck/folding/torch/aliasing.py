"""Whether taking a BatchNorm out lets an operator write into what others still read.

A BatchNorm makes a tensor of its own, an Identity hands on the one that it is given. Whatever
writes in place behind it then writes into the data before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bncheck.folding.plan import FoldPlan
from bncheck.folding.reasons import Obstacle, Reason
from bncheck.graph import Graph, Node, NodeKind

K = NodeKind
ALIASING = frozenset({K.IDENTITY, K.DROPOUT, K.RESHAPE, K.SPLIT})  # may give what they are given


def overwriting(plan: FoldPlan, graph: Graph, in_place: frozenset[str]) -> dict[Node, Obstacle]:
    """The folds of BatchNorms that cannot be made for that reason."""
    gone = {fold.node for fold in plan.batch_norms}
    memory = _Memory(graph, gone, in_place)
    return {node: Obstacle(Reason.READ_ELSEWHERE) for node in gone if memory.is_overwritten(node)}


class _Memory:
    def __init__(self, graph: Graph, gone: Iterable[Node], in_place: frozenset[str]) -> None:
        self._graph = graph
        self._gone = frozenset(gone)
        self._in_place = in_place

    def is_overwritten(self, norm: Node) -> bool:
        """Whether something behind a BatchNorm writes into what others read before it."""
        behind = {*self._same(norm.outputs[0])}
        if not any(self._writes(node) for value in behind for node in self._readers(value)):
            return False
        begin = self._begin(norm.inputs[0])
        before = {*self._same(begin)} - behind
        readers = (node for value in before for node in self._readers(value))
        others = any(not self._hands_on(node) for node in readers)
        is_returned = not before.isdisjoint(self._graph.outputs)
        return others or is_returned or self._graph.producer(begin) is None

    def _readers(self, value: str) -> Iterator[Node]:
        return (node for node in self._graph.consumers(value) if node.kind is not K.SHAPE)

    def _writes(self, node: Node) -> bool:
        return not self._in_place.isdisjoint(node.outputs)

    def _hands_on(self, node: Node) -> bool:
        return node.kind in ALIASING or node in self._gone

    def _same(self, value: str) -> Iterator[str]:
        """All values that are the same memory, from this one on."""
        waiting, seen = [value], {value}
        while waiting:
            value = waiting.pop()
            yield value
            for node in self._readers(value):
                made = {*node.outputs} if self._hands_on(node) or self._writes(node) else set()
                waiting += made - seen
                seen |= made

    def _begin(self, value: str) -> str:
        """The value as which the memory of another was made."""
        seen: set[str] = set()
        while value not in seen:
            seen.add(value)
            node = self._graph.producer(value)
            if node is not None and node.inputs and (self._hands_on(node) or self._writes(node)):
                value = node.inputs[0]
        return value
