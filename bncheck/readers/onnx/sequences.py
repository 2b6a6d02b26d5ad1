"""Parts that are taken from a sequence: so exporters write torch.split and chunk.

SplitToSequence followed by SequenceAt is a SPLIT of the data for each part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from bncheck.graph import Node, NodeKind, Shape
from bncheck.readers.conventions import settled
from bncheck.readers.onnx.constants import Constants
from bncheck.readers.onnx.operation import Operation

Shapes = Mapping[str, Shape]
SPLIT, TAKE = "SplitToSequence", "SequenceAt"


@dataclass(frozen=True, slots=True)
class Parts:
    """Data in parts: of ``sizes`` in order, or of one length where that is an integer."""

    data: str
    axis: int
    sizes: tuple[int, ...] | int

    def bounds(self, index: int) -> tuple[int, int] | None:
        """Where a part begins and ends; None where there is none."""
        if index < 0:
            return None
        if isinstance(self.sizes, int):
            return index * self.sizes, (index + 1) * self.sizes
        ends = [0, *accumulate(self.sizes)]
        return (ends[index], ends[index + 1]) if index < len(self.sizes) else None


class Sequences:
    """The sequences of a graph by the name of their value."""

    def __init__(self) -> None:
        self._known: dict[str, Parts] = {}
        self._taken: set[str] = set()

    def note(self, operation: Operation, constants: Constants) -> None:
        """Take note of a sequence whose parts are known."""
        if operation.op != SPLIT or operation.domain or operation.opaque:
            return
        length = constants.get(operation.operand(1))
        sizes = constants.integers(operation.operand(1))
        if length is None or not sizes or min(sizes) < 0 or len(operation.outputs) != 1:
            return
        axis, data = operation.integer("axis", 0), operation.operand(0)
        each = sizes if length.shape else sizes[0]
        self._known[operation.outputs[0]] = Parts(data, axis, each)

    def part(self, operation: Operation, constants: Constants, shapes: Shapes) -> Node | None:
        """The node that takes a part; None for any other operation."""
        whole = self._known.get(operation.operand(0)) if operation.op == TAKE else None
        index = constants.integers(operation.operand(1)) if whole else None
        bounds = whole.bounds(index[0]) if whole and index and len(index) == 1 else None
        if whole is None or bounds is None:
            return None
        ends = {"starts": bounds[:1], "ends": bounds[1:]}
        section = {"axes": (whole.axis,), **ends, "steps": (1,)}
        self._taken.add(operation.operand(0))
        outputs, kind = operation.outputs, NodeKind.SPLIT
        made = Node(kind, operation.op, operation.name, (whole.data,), outputs, {}, section)
        return settled(made, shapes)

    def without_taken(self, nodes: Sequence[Node], outputs: tuple[str, ...]) -> tuple[Node, ...]:
        """The nodes without the sequences of which every part is taken by a node of its own."""
        if not self._taken:
            return tuple(nodes)
        read = {value for node in nodes for value in node.inputs} | {*outputs}
        return tuple(n for n in nodes if not self._taken.intersection(n.outputs) - read)
