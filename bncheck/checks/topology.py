"""Ways along a graph that several checks go.

Where the way leads into what is not known they raise UnknownFact: an operation outside the graph's
vocabulary, or the beginning of a chain that is all a file shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from bncheck.facts import Unknown, UnknownFact
from bncheck.graph import Graph, Node, NodeKind

LINEAR_OPS = frozenset({NodeKind.CONV, NodeKind.CONV_TRANSPOSE, NodeKind.LINEAR})
NORMS = frozenset(
    {
        NodeKind.BATCH_NORM,
        NodeKind.INSTANCE_NORM,
        NodeKind.GROUP_NORM,
        NodeKind.LAYER_NORM,
        NodeKind.RMS_NORM,
        NodeKind.LOCAL_RESPONSE_NORM,
    }
)
KEEP_VALUES = frozenset({NodeKind.IDENTITY, NodeKind.DROPOUT})
FARTHEST = 2_000  # operations on one way: no network needs them, a hostile file may
BEGINNING = Unknown("order", "what comes before is not in this file", "check the exported .onnx")
TOO_FAR = Unknown("order", f"more than {FARTHEST} operations lie before it")
RANK = Unknown(
    "shapes",
    "whether a linear layer in front makes a matrix is not in this file",
    "check the exported .onnx",
)


class Way(NamedTuple):
    """From a value against the flow: what was passed, the values on it, and what it leads to.

    ``source`` is the first node that was not passed, None where the model's input was reached.
    """

    source: Node | None
    passed: tuple[Node, ...]
    values: tuple[str, ...]

    def is_exclusive(self, graph: Graph) -> bool:
        """Whether nothing else reads any of the values."""
        return all(graph.uses(value) == 1 for value in self.values)


def opaque(node: Node, graph: Graph) -> Unknown:
    """Why nothing is said about what lies behind an OPAQUE."""
    instead = "" if graph.complete else BEGINNING.instead
    return Unknown("order", f"bncheck cannot look through {node.op}", instead)


def maker(graph: Graph, value: str) -> Node | None:
    """The node that makes a value, None for an input of the model; raises UnknownFact."""
    node = graph.producer(value)
    if node is None and not graph.complete:
        raise UnknownFact(BEGINNING)
    if node is not None and node.kind is NodeKind.OPAQUE:
        raise UnknownFact(opaque(node, graph))
    return node


def upstream(graph: Graph, value: str, passes: Callable[[Node], bool]) -> Way:
    """The way from a value through the first inputs of the nodes that pass; raises UnknownFact."""
    passed: list[Node] = []
    values = [value]
    for _ in range(FARTHEST):
        node = maker(graph, values[-1])
        if node is None or not node.inputs or not passes(node):
            return Way(node, tuple(passed), tuple(values))
        passed.append(node)
        values.append(node.inputs[0])
    raise UnknownFact(TOO_FAR)


def nearest(
    graph: Graph, value: str, wanted: Callable[[Node], bool], passes: Callable[[Node], bool]
) -> Node | Unknown | None:
    """The nearest node that is wanted, along all data that flows into a value.

    Where there is none: what hides whether there is one, or None.
    """
    waiting, seen = deque([value]), {value}
    hidden: Unknown | None = None
    while waiting and len(seen) <= FARTHEST:
        node = graph.producer(waiting.popleft())
        if node is None or node.kind is NodeKind.OPAQUE:
            hidden = hidden or (opaque(node, graph) if node else _beginning(graph))
        elif wanted(node):
            return node
        elif passes(node):
            fresh = [v for v in node.inputs if v not in seen and graph.depends_on_input(v)]
            seen.update(fresh)
            waiting.extend(fresh)
    return TOO_FAR if waiting else hidden


def _beginning(graph: Graph) -> Unknown | None:
    return None if graph.complete else BEGINNING


def data(call: Node) -> str:
    """The value that a node of one input works on."""
    return call.inputs[0] if call.inputs else ""


def is_flat(graph: Graph, linear: Node) -> bool:
    """Whether a LINEAR makes a matrix, whose last axis is the one that BatchNorm normalizes.

    Over (N, L, C) a BatchNorm1d normalizes L. Raises UnknownFact where the rank is not known.
    """
    rank = len(graph.shapes.get(linear.outputs[0], ()))
    if not rank and linear.op != "Gemm":
        raise UnknownFact(RANK)
    return rank in (0, 2)


def keeps_channels(node: Node, graph: Graph) -> bool:
    """Whether each channel of (N, C, ...) goes through a RESHAPE into channels of its own."""
    perm, start = node.attributes.get("perm"), node.attributes.get("start_dim")
    if isinstance(perm, tuple):
        return perm[:2] == (0, 1)
    if isinstance(start, int):
        return start >= 1
    for name in ("squeeze", "unsqueeze"):
        axes = node.attributes.get(name)
        if isinstance(axes, tuple):
            return min(axes, default=2) >= 2
    if "dim0" in node.attributes:
        return False
    return "groups" in node.attributes or _keeps_leading_sizes(node, graph)


def _keeps_leading_sizes(node: Node, graph: Graph) -> bool:
    """Whether samples and channels are as many as before, or all but samples becomes one axis."""
    before = (*graph.shapes.get(data(node), ()), None, None)[:2]
    after, asked = graph.shapes.get(node.outputs[0], ()), node.attributes.get("shape")
    sizes = asked if isinstance(asked, tuple) else after
    kept = [
        size is not None and size in (0, known) for size, known in zip(sizes, before, strict=False)
    ]
    return kept == [True, True] or (kept[:1] == [True] and sizes[1:] == (-1,))
