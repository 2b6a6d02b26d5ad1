"""Which values share memory, where operators write into what they are given.

A BatchNorm makes a value of its own. Once it is gone, what writes in place behind it writes into
the data before it, which others may still read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from bncheck.folding.plan import FoldPlan
from bncheck.folding.reasons import Obstacle, Reason
from bncheck.graph import Graph, Node, NodeKind

K = NodeKind
ALIASING = frozenset({K.IDENTITY, K.DROPOUT, K.RESHAPE, K.SPLIT})  # may give what they are given
VIEWS = frozenset({"as_strided", "diagonal", "expand", "expand_as", "imag", "real", "unfold"})
NOTHING: Mapping[str, str] = {}


def overwritten(
    graph: Graph, in_place: Collection[str], same: Mapping[str, str] = NOTHING
) -> frozenset[str]:
    """Values that are read although an operator wrote into their memory since they were made.

    ``in_place`` are what such operators make. ``same`` has values that are to be others.
    """
    if not in_place:
        return frozenset()
    memory = _Memory(graph, in_place, same)
    found: set[str] = set()
    for moment, node in enumerate(graph.nodes):
        if not memory.writes(node):
            continue
        for value in memory.sharing(node.outputs[0]):
            if memory.is_used_after(value, moment, node):
                found.add(value)
    return frozenset(found)


def unsafe(plan: FoldPlan, graph: Graph, in_place: Collection[str]) -> Mapping[Node, Obstacle]:
    """The folds of a plan that let an operator write into what others still read."""
    wrong = overwritten(graph, in_place, plan.aliases) - overwritten(graph, in_place)
    memory = _Memory(graph, in_place, plan.aliases)
    spoilt = {value for each in wrong for value in memory.sharing(each)}
    why = Obstacle(Reason.READ_ELSEWHERE)
    return {f.node: why for f in plan.folds if not spoilt.isdisjoint(f.node.outputs)}


class _Memory:
    """The values of a graph in groups, each of which may lie in one piece of memory."""

    def __init__(self, graph: Graph, in_place: Collection[str], same: Mapping[str, str]) -> None:
        self._graph = graph
        self._in_place = in_place
        self._same = same
        self._leaders: dict[str, str] = {}
        self._made: dict[str, int] = {}
        self._read: dict[str, int] = {}
        for moment, node in enumerate(graph.nodes):
            self._note(moment, node)
        self._groups: dict[str, list[str]] = defaultdict(list)
        for value in self._leaders:
            self._groups[self._leader(value)].append(value)

    def _note(self, moment: int, node: Node) -> None:
        self._made.update(dict.fromkeys(node.outputs, moment))
        is_gone = not self._same.keys().isdisjoint(node.outputs)
        if node.kind is not K.SHAPE and not is_gone:
            self._read.update(dict.fromkeys(node.inputs, moment))
        if is_gone:
            self._join(node.outputs[0], self._same[node.outputs[0]])
        elif node.inputs and (self.writes(node) or _hands_on(node)):
            for output in node.outputs:
                self._join(output, node.inputs[0])

    def _join(self, value: str, other: str) -> None:
        self._leaders.setdefault(value, value)
        self._leaders.setdefault(other, other)
        self._leaders[self._leader(value)] = self._leader(other)

    def _leader(self, value: str) -> str:
        while self._leaders.get(value, value) != value:
            self._leaders[value] = value = self._leaders[self._leaders[value]]
        return value

    def writes(self, node: Node) -> bool:
        """Whether an operator writes into what it is given."""
        return any(output in self._in_place for output in node.outputs)

    def sharing(self, value: str) -> list[str]:
        """All values that may lie where one lies."""
        return self._groups.get(self._leader(value), [])

    def is_used_after(self, value: str, moment: int, writer: Node) -> bool:
        """Whether a value that was there before is read, or given to the caller, later on."""
        if value in writer.outputs or value in self._same or self._made.get(value, -1) > moment:
            return False
        is_the_callers = value not in self._made or value in self._graph.outputs
        return is_the_callers or self._read.get(value, -1) > moment


def _hands_on(node: Node) -> bool:
    return node.kind in ALIASING or node.op.rpartition(".")[2] in VIEWS
