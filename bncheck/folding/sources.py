"""The nodes of a graph that scale and shift channels by constants: what can be folded."""

from __future__ import annotations

from bncheck.folding.affine import Affine
from bncheck.folding.channels import ChannelMap, whole
from bncheck.folding.reasons import Blocked, Reason
from bncheck.folding.transfer import Shapes
from bncheck.graph import Graph, Node, NodeKind
from bncheck.tensor import Tensor

K = NodeKind
CHANNELS = 1
STATISTICS = ("running_mean", "running_var")


def is_source(graph: Graph, node: Node) -> bool:
    """Whether a node is a BatchNorm, or part of one that an exporter took to pieces.

    Such a part is a product with a constant per channel, or a sum with one beside such a product;
    other sums are biases, and stay where they are.
    """
    if not node.inputs or not node.outputs:
        return False
    if node.kind is not K.ADD:
        return node.kind is K.BATCH_NORM or is_constant_product(node)
    neighbours = (graph.producer(node.inputs[0]), *graph.consumers(node.outputs[0]))
    return is_constant_sum(node) and any(n and is_constant_product(n) for n in neighbours)


def is_constant_product(node: Node) -> bool:
    """Whether a node is x * c or x / c with a stored c."""
    stored = isinstance(node.parameters.get("weight"), Tensor)
    return node.kind is K.MUL and stored and not node.attributes.get("reversed")


def is_constant_sum(node: Node) -> bool:
    """Whether a node is x + c, x - c or c - x with a stored c."""
    return node.kind is K.ADD and isinstance(node.parameters.get("bias"), Tensor)


def map_of(graph: Graph, node: Node, shapes: Shapes) -> ChannelMap:
    """What a source does to its data. Raises Blocked where that is no constant map."""
    if node.kind is K.BATCH_NORM:
        affine = affine_of_batch_norm(graph, node)
        return whole(affine, CHANNELS, affine.size)
    affine, axis = affine_of_constant(node, shapes)
    if axis is None:
        raise Blocked(Reason.CHANNELS, node)
    return whole(affine, axis, affine.size)


def affine_of_batch_norm(graph: Graph, node: Node) -> Affine:
    """The numbers of a BatchNorm. Raises Blocked where it is no constant map at inference."""
    if any(role not in node.parameters for role in STATISTICS):
        raise Blocked(Reason.BATCH_STATISTICS)
    if node.attributes.get("training") is True:
        raise Blocked(Reason.TRAINING)
    held = [tensor for tensor in node.parameters.values() if isinstance(tensor, Tensor)]
    if len(held) < len(node.parameters):
        data = any(map(graph.depends_on_input, node.inputs[1:]))
        raise Blocked(Reason.BATCH_STATISTICS if data else Reason.COMPUTED)
    if len({tensor.numel for tensor in held}) != 1:
        raise Blocked(Reason.CHANNELS)
    if not all(tensor.finite for tensor in held):
        raise Blocked(Reason.NOT_FINITE)
    return Affine(node, held[0].numel)


def affine_of_constant(node: Node, shapes: Shapes) -> tuple[Affine, int | None]:
    """The numbers of a product or sum, and their axis; None: one number for all.

    Raises Blocked where the constant varies along several axes, or along one that is not known.
    """
    constant = node.parameters["weight" if node.kind is K.MUL else "bias"]
    assert isinstance(constant, Tensor)
    if node.attributes.get("reversed") and node.attributes.get("alpha", 1) != 1:
        raise Blocked(Reason.OPERATOR, node)
    wide = [axis for axis, size in enumerate(constant.shape) if size != 1]
    if not wide:
        return Affine(node, 1), None
    rank = len(shapes.get(node.outputs[0], shapes.get(node.inputs[0], ())))
    first = node.attributes.get("axis")
    begin = first if isinstance(first, int) else rank - len(constant.shape)
    if len(wide) != 1 or begin < 0 or not rank:
        raise Blocked(Reason.CHANNELS, node)
    return Affine(node, constant.numel), begin + wide[0]
