"""What may absorb a BatchNorm: pure functions of the graph.

At inference a BatchNorm is y = s * x + t in each channel, with s = weight / sqrt(var + eps) and
t = bias - s * mean. A linear op whose output nothing else reads takes both into its own weight and
bias (Jacob et al. 2018, arXiv:1712.05877, section 3.2).
"""

from __future__ import annotations

from bncheck.graph import Graph, Node, NodeKind
from bncheck.tensor import Tensor

STATISTICS = ("running_mean", "running_var")
CHANNELS_FIRST = frozenset({NodeKind.CONV, NodeKind.CONV_TRANSPOSE})


def absorber(graph: Graph, batch_norm: Node) -> Node | None:
    """The linear op directly before a BatchNorm that can take it in; None where none is proven.

    A node without the attribute ``training`` counts as not in training mode.
    """
    data = next(iter(batch_norm.inputs), "")
    before = graph.producer(data)
    if before is None or graph.uses(data) != 1 or not _is_affine_map(graph, batch_norm):
        return None
    linear = before.kind in CHANNELS_FIRST or _is_flat_linear(graph, before)
    return before if linear and _may_change(graph, before) else None


def _is_affine_map(graph: Graph, node: Node) -> bool:
    """Whether a node is a BatchNorm whose scale and shift are constants at inference."""
    return (
        node.kind is NodeKind.BATCH_NORM
        and node.attributes.get("training") is not True
        and all(role in node.parameters for role in STATISTICS)
        and _is_constant(graph, node)
    )


def _is_constant(graph: Graph, node: Node) -> bool:
    """Whether all parameters are stored, or computed from what is: exporters expand a zero bias.

    A parameter that is computed is an input beside the data.
    """
    if all(isinstance(parameter, Tensor) for parameter in node.parameters.values()):
        return True
    computed = node.inputs[1:]
    return bool(computed) and not any(map(graph.depends_on_input, computed))


def _is_flat_linear(graph: Graph, node: Node) -> bool:
    """Whether a LINEAR's channels, its last axis, are axis 1, which BatchNorm normalizes.

    They are for a Gemm and for a matrix of known shape. Over (N, L, C) a BatchNorm1d normalizes L;
    with C == L even the sizes agree, so they prove nothing.
    """
    if node.kind is not NodeKind.LINEAR:
        return False
    return node.op == "Gemm" or len(graph.shapes.get(node.outputs[0], ())) == 2


def _may_change(graph: Graph, linear: Node) -> bool:
    """Whether all parameters are constants, and the weight is stored for this node alone."""
    weight = linear.parameters.get("weight")
    return isinstance(weight, Tensor) and _is_constant(graph, linear) and graph.holders(weight) == 1
