"""Follows channels through a graph, from one BatchNorm's output to the next one's input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from bncheck.facts import Unknown, UnknownFact
from bncheck.graph import Graph, Node, NodeKind
from bncheck.moments.distribution import Channels, Floats
from bncheck.moments.nodes import Context, output
from bncheck.moments.norms import has_initial_statistics
from bncheck.moments.roots import Roots
from bncheck.moments.space import SEVERAL, Sizes

WHAT = "mean of the input"
NO_SIZE = Unknown(WHAT, "zeros around an image matter much, and its size is not known")
MOST_DOUBT = 1.0  # standard deviations that the zeros around an image of unknown size may add
MOST_HELD = 2**25  # numbers at a time
_KEPT: WeakKeyDictionary[Graph, Mapping[Node, Prediction | Unknown]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The mean of each channel, NaN where nothing is known of it; the others as of Channels."""

    mean: Floats
    fringe: Floats | None = None
    deviation: Floats | None = None

    def misses(self, mean: Floats, deviation: Floats) -> Floats:
        """By how many standard deviations it is off.

        Where the size of space is not known, it is taken to be the one at which it is off least.
        The smaller that is, the less are zeros in proportion to it: as much as the next power of
        1 / size may add is no miss. Raises UnknownFact where that is more than the mean can tell.
        """
        miss = (self.mean - mean) / deviation
        if self.fringe is None:
            return miss
        effect = self.fringe / deviation
        known = np.isfinite(miss) & np.isfinite(effect)
        strength = effect[known] @ effect[known]
        inverse = -(miss[known] @ effect[known]) / strength if strength > 0 else 0.0
        inverse = min(max(inverse, 0.0), 1.0)
        if inverse**2 * np.sqrt(strength / max(known.sum(), 1)) > MOST_DOUBT:
            raise UnknownFact(NO_SIZE)
        off = miss + inverse * effect
        return np.sign(off) * np.maximum(np.abs(off) - inverse**2 * np.abs(effect), 0.0)


def predictions(graph: Graph) -> Mapping[Node, Prediction | Unknown]:
    """The mean of the input of each BATCH_NORM, or why it cannot be predicted.

    The result is kept for as long as the graph is.
    """
    if graph not in _KEPT:
        with np.errstate(all="ignore"):  # what is not finite is not known
            _KEPT[graph] = dict(_Follower(graph).everywhere())
    return _KEPT[graph]


def _before_norms(graph: Graph) -> set[str]:
    """The values from which the inputs of BatchNorms are made."""
    needed: set[str] = set()
    for node in reversed(graph.nodes):
        if node.kind is NodeKind.BATCH_NORM or not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
    return needed


def _before_initial(graph: Graph) -> frozenset[str]:
    """The inputs of BatchNorms whose own variance tells nothing."""
    norms = (node for node in graph.nodes if node.kind is NodeKind.BATCH_NORM and node.inputs)
    return frozenset(node.inputs[0] for node in norms if has_initial_statistics(node))


class _Follower:
    """What is known up to some node; a value that no node still reads is forgotten."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._needed = _before_norms(graph)
        self._context = Context(Sizes(graph), Roots(), _before_initial(graph))
        self._known: dict[str, Channels] = {}
        self._why = dict.fromkeys(graph.inputs, "it is the model's input")
        self._readers = {v: len(graph.consumers(v)) for node in graph.nodes for v in node.outputs}
        self._held = 0

    def everywhere(self) -> Iterator[tuple[Node, Prediction | Unknown]]:
        """Each BATCH_NORM with what is predicted for it."""
        for node in self._graph.nodes:
            if node.kind is NodeKind.BATCH_NORM and node.inputs:
                yield node, self._prediction(node.inputs[0])
            self._context.sizes.note(node)
            self._context.roots.note(node)
            for place, value in enumerate(node.outputs):
                if value in self._needed:
                    self._note(node, place, value)
            self._forget(node)

    def _prediction(self, value: str) -> Prediction | Unknown:
        x = self._known.get(value)
        if x is None:
            return Unknown(WHAT, self._why.get(value, "nothing is known of it"))
        if (x.axis, x.mean.ndim, x.spread, x.border) != (1, 1, False, ()):
            return Unknown(WHAT, "its channels do not lie along axis 1")
        return Prediction(x.mean, x.fringe, x.deviation)

    def _note(self, node: Node, place: int, value: str) -> None:
        made = self._made(node, place)
        if made is None or self._held + made.held > MOST_HELD:
            self._why[value] = self._reason(node)
            return
        self._known[value] = made
        self._held += made.held

    def _made(self, node: Node, place: int) -> Channels | None:
        inputs = [self._known.get(value) for value in node.inputs]
        try:
            made = output(node, place, inputs, self._context)
        except UnknownFact:
            return None
        return made if made is not None and np.isfinite(made.mean).any() else None

    def _reason(self, node: Node) -> str:
        """What already holds for the data; where all of that is known, what the node is."""
        if node.kind is NodeKind.BATCH_NORM:
            return "the BatchNorm before it has statistics as at the start"
        data = node.inputs if node.kind in SEVERAL else node.inputs[:1]
        reasons = (self._why.get(v, "") for v in data if v not in self._known)
        return next(filter(None, reasons), f"it does not follow through {node.op}")

    def _forget(self, node: Node) -> None:
        for value in node.inputs:
            if value in self._readers:
                self._readers[value] -= 1
                if not self._readers[value] and value in self._known:
                    self._held -= self._known.pop(value).held
