"""A graph from which nodes are being taken out: who reads what by now."""

from __future__ import annotations

from collections import Counter

from bncheck.graph import Graph, Node, NodeKind


class Working:
    """The nodes of a graph that are left; ``aliases`` says what stands for a value that is gone."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.aliases: dict[str, str] = {}
        self._readers: dict[str, list[Node]] = {}
        self._outputs = Counter(graph.outputs)
        for node in graph.nodes:
            if node.kind is not NodeKind.SHAPE:
                for value in node.inputs:
                    self._readers.setdefault(value, []).append(node)

    def now(self, value: str) -> str:
        """The value that stands for one by now."""
        while value in self.aliases:
            value = self.aliases[value]
        return value

    def producer(self, value: str) -> Node | None:
        """What makes a value by now; None for an input or a constant."""
        return self.graph.producer(self.now(value))

    def readers(self, value: str) -> list[Node]:
        """The nodes that read a value, once for each time; reading its shape alone is none."""
        return self._readers.get(self.now(value), [])

    def is_output(self, value: str) -> bool:
        """Whether the caller gets the value."""
        return self._outputs[self.now(value)] > 0

    def uses(self, value: str) -> int:
        """How often a value is read, by nodes or as an output."""
        return len(self.readers(value)) + self._outputs[self.now(value)]

    def take_out(self, node: Node, instead: str) -> None:
        """Remove a node; what it made is from now on what it read, under this name."""
        kept, gone = self.now(instead), self.now(node.outputs[0])
        for value in {*map(self.now, node.inputs)}:
            left = [reader for reader in self._readers.get(value, []) if reader is not node]
            self._readers[value] = left
        self._readers[kept] = [*self._readers.get(kept, []), *self._readers.pop(gone, [])]
        self._outputs[kept] += self._outputs.pop(gone, 0)
        self.aliases[gone] = kept
