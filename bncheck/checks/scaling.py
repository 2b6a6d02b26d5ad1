"""Which additions and multiplications are by a constant for each channel of a linear op."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from bncheck.checks.topology import FARTHEST, data
from bncheck.graph import Graph, Node, NodeKind, Shape
from bncheck.tensor import Tensor

CONSTANTS = {NodeKind.MUL: "weight", NodeKind.ADD: "bias"}  # the role of the constant operand


def scales_or_shifts(graph: Graph, node: Node, linear: Node) -> bool:
    """Whether a node multiplies by, or adds, a constant for each channel of a linear op."""
    channels = out_channels(linear)
    if (
        node.kind not in CONSTANTS
        or channels is None
        or channels < 2
        or _divides_by_data(node, graph)
    ):
        return False
    shape = _constant_shape(graph, node, channels)
    place = node.attributes.get("axis")
    if isinstance(place, int):  # opset 6 and older: the constant begins at this axis
        return place == 1 and shape[:1] == (channels,) == (_size(shape),)
    axis = channel_axis(linear)
    return len(shape) >= -axis and shape[axis] == channels == _size(shape)


def _divides_by_data(node: Node, graph: Graph) -> bool:
    if node.kind is not NodeKind.MUL or not node.attributes.get("divide"):
        return False
    constant_first = len(node.inputs) > 1 and not graph.depends_on_input(node.inputs[0])
    return constant_first or bool(node.attributes.get("reversed"))


def _constant_shape(graph: Graph, node: Node, channels: int) -> Shape:
    """The shape of the operand that depends on no input of the model; () where there is none."""
    held = node.parameters.get(CONSTANTS[node.kind])
    if isinstance(held, Tensor):
        return held.shape
    constant = [value for value in node.inputs if not graph.depends_on_input(value)]
    if len(constant) != 1 or len(node.inputs) != 2:
        return ()
    return _shape_of_constant(graph, constant[0], channels)


def _shape_of_constant(graph: Graph, value: str, channels: int) -> Shape:
    """The shape of what is computed from stored tensors, () where it is not known.

    Where a constant is reshaped, what can be broadcast leaves only the channels for a -1.
    """
    added: list[int] = []
    for _ in range(FARTHEST):
        known, node = graph.shapes.get(value, ()), graph.producer(value)
        if node is None or (known and None not in known):
            return _unsqueezed(known, added)
        axes, asked = node.attributes.get("unsqueeze"), node.attributes.get("shape")
        if node.kind is NodeKind.RESHAPE and isinstance(asked, tuple):
            return _unsqueezed(tuple(channels if n == -1 else n for n in asked), added)
        if node.kind is NodeKind.RESHAPE and isinstance(axes, tuple) and len(axes) == 1:
            added.append(axes[0])
        elif node.kind is not NodeKind.IDENTITY:
            held = node.parameters.get(CONSTANTS.get(node.kind, ""))
            return _unsqueezed(held.shape if isinstance(held, Tensor) else (), added)
        value = data(node)
    return ()


def _unsqueezed(shape: Shape, axes: Sequence[int]) -> Shape:
    """A shape with axes of length 1 added, the last one first; () stays ()."""
    sizes = list(shape)
    for axis in reversed(axes):
        sizes.insert(axis if axis >= 0 else len(sizes) + 1 + axis, 1)
    return tuple(sizes) if shape else ()


def _size(shape: Shape) -> int:
    return prod(size or 0 for size in shape)


def out_channels(node: Node) -> int | None:
    """How many channels a linear op makes; None where its weight is not stored."""
    weight = node.parameters.get("weight")
    if not isinstance(weight, Tensor) or len(weight.shape) < 2:
        return None
    if node.kind is NodeKind.LINEAR:
        return weight.shape[-2 if node.attributes.get("transB") else -1]
    if node.kind is NodeKind.CONV:
        return weight.shape[0]
    groups = node.attributes.get("groups", 1)
    return weight.shape[1] * groups if isinstance(groups, int) else None


def channel_axis(node: Node) -> int:
    """The axis of a linear op's channels, counted from the end; its weight is stored."""
    weight = node.parameters["weight"]
    if node.kind is NodeKind.LINEAR or not isinstance(weight, Tensor):
        return -1
    return 1 - len(weight.shape)
