"""BN6xx: what comes before a BatchNorm that makes one of the two superfluous, or that harms it."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks.scaling import scales_or_shifts
from bncheck.checks.topology import (
    KEEP_VALUES,
    LINEAR_OPS,
    NORMS,
    Way,
    data,
    is_flat,
    keeps_channels,
    nearest,
    upstream,
)
from bncheck.checks.words import label
from bncheck.facts import Unknown, UnknownFact
from bncheck.finding import Observation
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model, NormLayer
from bncheck.tensor import Tensor

WITHOUT_DROPOUT = Unknown(
    "dropout", "exporters take it out of an inference graph", "check the live module, or its .pt2"
)


def bias_before_batch_norm(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN601: a linear op adds a bias, and the BatchNorm directly after it takes it away again."""
    biases = [_bias_before(call, layer, model.order) for call in layer.calls]
    found = [each for each in biases if each is not None]
    if not found or len(found) < len(biases):
        return
    names = ", ".join(f"{label(node)} ({node.op})" for node, _ in found)
    parameters = sum(bias.numel for _, bias in found)
    yield Observation(
        f"{names} directly before it adds a bias, which it subtracts again with the mean: "
        f"{parameters} parameters without effect.",
        {
            "linear": [label(node) for node, _ in found],
            "parameters": parameters,
            "largest": max(max(abs(bias.minimum), abs(bias.maximum)) for _, bias in found),
        },
    )


def _bias_before(call: Node, layer: NormLayer, graph: Graph) -> tuple[Node, Tensor] | None:
    """What adds a bias that reaches nothing but BatchNorm, and that bias."""
    way = upstream(graph, data(call), lambda node: node.kind is NodeKind.IDENTITY)
    if way.source is None or not _feeds_batch_norm_alone(way, graph):
        return None
    linear = _linear_behind(way.source, graph)
    bias = way.source.parameters.get("bias")
    if linear is None or not isinstance(bias, Tensor) or not _has_its_channels(bias, layer):
        return None
    if linear.kind is NodeKind.LINEAR and not is_flat(graph, linear):
        return None
    return (way.source, bias) if bias.finite and not bias.all_equal(0) else None


def _has_its_channels(bias: Tensor, layer: NormLayer) -> bool:
    """Whether there is one number for each channel; else another axis than theirs is normalized."""
    return bias.numel == layer.get(NormLayer.num_features, bias.numel)


def _feeds_batch_norm_alone(way: Way, graph: Graph) -> bool:
    if not set(way.values).isdisjoint(graph.outputs):
        return False
    readers = (reader for value in way.values for reader in graph.consumers(value))
    harmless = (NodeKind.BATCH_NORM, NodeKind.SHAPE)
    return all(reader.kind in harmless or reader in way.passed for reader in readers)


def _linear_behind(node: Node, graph: Graph) -> Node | None:
    """The node itself, or the linear op of which it is the bias."""
    if node.kind is not NodeKind.ADD:
        return node if node.kind in LINEAR_OPS else None
    linear = graph.producer(data(node))
    if linear is None or linear.kind not in LINEAR_OPS:
        return None
    return linear if scales_or_shifts(graph, node, linear) else None


def dropout_before_batch_norm(
    layer: NormLayer, model: Model, *, p: float = 0.1
) -> Iterator[Observation]:
    """BN602: a Dropout of at least ``p`` upstream, and nothing that normalizes between."""
    found = [nearest(model.order, data(c), lambda n: _drops(n, p), _lets_pass) for c in layer.calls]
    dropout = next((each for each in found if isinstance(each, Node)), None)
    if dropout is not None:
        yield _after_dropout(dropout)
        return
    for each in found:
        if isinstance(each, Unknown):
            raise UnknownFact(each)
    if layer.calls and _may_have_lost_dropout(layer, model):
        raise UnknownFact(WITHOUT_DROPOUT)


def _drops(node: Node, least: float) -> bool:
    """AlphaDropout keeps mean and variance as they are, and does not count."""
    p = node.attributes.get("p")
    is_dropout = node.kind is NodeKind.DROPOUT and "alpha" not in node.op.lower()
    return is_dropout and isinstance(p, int | float) and p >= least


def _lets_pass(node: Node) -> bool:
    return node.kind not in NORMS


def _after_dropout(dropout: Node) -> Observation:
    p = dropout.attributes["p"]
    return Observation(
        f"Dropout comes before it ({label(dropout)}, p = {p:g}), and nothing normalizes in "
        "between: running_var is that of data with gaps, and too large at inference.",
        {"dropout": label(dropout), "p": p},
    )


def _may_have_lost_dropout(layer: NormLayer, model: Model) -> bool:
    """Whether the graph is one for inference in which no Dropout is left."""
    training = layer.get(NormLayer.training, False)
    return model.content == "graph" and not training and NodeKind.DROPOUT not in model.order.kinds


def consecutive_batch_norm(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN603: nothing but Identity, Dropout or reshaping since another BatchNorm."""
    before = [_batch_norm_before(call, model.order) for call in layer.calls]
    names = [label(node) for node in before if node is not None]
    if names and len(names) == len(before):
        yield Observation(
            f"Normalizes what {', '.join(names)} has normalized: nothing in between changes a "
            "channel's distribution, and one of the two is enough.",
            {"before": names},
        )


def _batch_norm_before(call: Node, graph: Graph) -> Node | None:
    way = upstream(graph, data(call), lambda node: _keeps_distribution(node, graph))
    is_batch_norm = way.source is not None and way.source.kind is NodeKind.BATCH_NORM
    return way.source if is_batch_norm and way.is_exclusive(graph) else None


def _keeps_distribution(node: Node, graph: Graph) -> bool:
    if node.kind is NodeKind.RESHAPE:
        return keeps_channels(node, graph)
    return node.kind in KEEP_VALUES
