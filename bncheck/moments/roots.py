"""Which values are made of one another channel by channel."""

from __future__ import annotations

from bncheck.graph import Node, NodeKind
from bncheck.tensor import Tensor

_BY_CHANNEL = frozenset(
    {
        NodeKind.BATCH_NORM,
        NodeKind.INSTANCE_NORM,
        NodeKind.RELU,
        NodeKind.ACTIVATION,
        NodeKind.DROPOUT,
        NodeKind.IDENTITY,
        NodeKind.QUANTIZE,
        NodeKind.AVERAGE_POOL,
        NodeKind.MAX_POOL,
        NodeKind.PAD,
        NodeKind.RESIZE,
        NodeKind.ADD,
        NodeKind.MUL,
    }
)


class Roots:
    """For each value the earliest one from which each of its channels is made alone.

    Values of one root go up and down together: as a depthwise convolution and what it reads.
    """

    def __init__(self) -> None:
        self._roots: dict[str, str] = {}

    def of(self, value: str) -> str:
        """The root of a value, which may be itself."""
        return self._roots.get(value, value)

    def note(self, node: Node) -> None:
        """Take note of what a node makes."""
        roots = {self.of(value) for value in node.inputs}
        if len(roots) == 1 and (node.kind in _BY_CHANNEL or _is_depthwise(node)):
            self._roots |= dict.fromkeys(node.outputs, *roots)


def _is_depthwise(node: Node) -> bool:
    weight, groups = node.parameters.get("weight"), node.attributes.get("groups")
    if node.kind is not NodeKind.CONV or not isinstance(weight, Tensor):
        return False
    return weight.shape[:2] == (groups, 1)
