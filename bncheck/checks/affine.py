"""BN4xx: the scale and shift after normalization, weight and bias."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks.values import PER_ELEMENT, non_finite
from bncheck.finding import Level, Observation
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model, NormLayer

LINEAR_OR_NORM = frozenset(
    {
        NodeKind.CONV,
        NodeKind.CONV_TRANSPOSE,
        NodeKind.LINEAR,
        NodeKind.BATCH_NORM,
        NodeKind.INSTANCE_NORM,
        NodeKind.GROUP_NORM,
        NodeKind.LAYER_NORM,
        NodeKind.RMS_NORM,
        NodeKind.LOCAL_RESPONSE_NORM,
    }
)
TORCH_NORMS = "torch.nn.modules.normalization."


def non_finite_affine(layer: NormLayer) -> Iterator[Observation]:
    """BN401: NaN or infinity in weight or bias."""
    noun = "element" if layer.kind in PER_ELEMENT else "channel"
    yield from non_finite({"weight": layer.weight, "bias": layer.bias}, noun)


def zero_gamma_layer(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN402: a weight of zeros, which leaves nothing of the input."""
    weight = layer.weight
    if weight is None or not weight.numel or not weight.all_equal(0) or _adds_one(layer):
        return
    if _is_trained(layer) and _reaches_nothing_else(layer, model):
        yield Observation(
            "weight is 0 everywhere, and nothing is added to the output before the next layer: all "
            "that follows sees a constant.",
            {"weight": 0.0, "meets_other_data": False},
        )
    else:
        yield Observation(
            "weight is 0 everywhere: the output is the bias, whatever the input. A residual branch "
            "may start so, to be added to its shortcut.",
            {"weight": 0.0},
            Level.INFO,
        )


def _adds_one(layer: NormLayer) -> bool:
    """Whether the layer may scale by 1 + weight, for which zeros are the healthy start."""
    if layer.kind not in PER_ELEMENT or _is_standard(layer):
        return False
    return layer.kind != "layer" or layer.class_path is not None


def _is_standard(layer: NormLayer) -> bool:
    """Whether the layer is PyTorch's own class, or an operation of the graph's vocabulary."""
    path = layer.class_path or ""
    calls = layer.get(NormLayer.calls, ())
    return path.startswith(TORCH_NORMS) or any(call.kind in LINEAR_OR_NORM for call in calls)


def _is_trained(layer: NormLayer) -> bool:
    """Whether running statistics are known that are not the initial ones."""
    mean = layer.get(NormLayer.running_mean, None)
    var = layer.get(NormLayer.running_var, None)
    if mean is None or var is None:
        return False
    return not (mean.all_equal(0) and var.all_equal(1))


def _reaches_nothing_else(layer: NormLayer, model: Model) -> bool:
    """Whether a complete graph shows that the output meets no other data at any call."""
    if not (layer.knows(NormLayer.calls) and model.knows(Model.graph) and layer.calls):
        return False
    return not any(_meets_other_data(call, model.graph) for call in layer.calls)


def _meets_other_data(call: Node, graph: Graph) -> bool:
    """Whether something may be added, joined or multiplied in before the next linear or norm op."""
    waiting = list(call.outputs[:1])
    seen = set(waiting)
    while waiting:
        for node in graph.downstream(waiting.pop()):
            if node.kind is NodeKind.SHAPE:
                continue
            if node.kind is NodeKind.OPAQUE or _sources(node, graph) > 1:
                return True
            if node.kind not in LINEAR_OR_NORM:
                waiting += [value for value in node.outputs if value and value not in seen]
                seen.update(node.outputs)
    return False


def _sources(node: Node, graph: Graph) -> int:
    return sum(map(graph.depends_on_input, set(node.inputs)))
