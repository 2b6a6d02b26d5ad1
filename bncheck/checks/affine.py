"""BN4xx: the scale and shift after normalization, weight and bias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bncheck.checks.values import PER_ELEMENT, non_finite
from bncheck.checks.words import channels, where
from bncheck.facts import Unknown, UnknownFact
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
UNMATCHED = Unknown(
    "weight decay",
    "the optimizer numbers its parameters, and their shapes do not tell them apart",
    "make it from model.named_parameters() (torch 2.6 or newer), whose names it saves",
)


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


def zero_gamma_channels(
    layer: NormLayer, *, share: float = 0.3, threshold: float = 1e-3
) -> Iterator[Observation]:
    """BN403: at least ``share`` of the weight below ``threshold`` times its mean size."""
    weight = layer.weight
    if weight is None or not weight.numel or not weight.finite or _adds_one(layer):
        return
    limit = threshold * sum(map(abs, weight.values)) / weight.numel
    small = weight.where(lambda value: abs(value) < limit)
    if small and len(small) >= share * weight.numel:
        noun = "element" if layer.kind in PER_ELEMENT else "channel"
        yield Observation(
            f"weight is about 0 in {where(small, weight.numel, noun)}: the output there is the "
            "bias, whatever the input.",
            {**channels(small, weight.numel), "limit": limit},
        )


def affine_untouched(layer: NormLayer) -> Iterator[Observation]:
    """BN404: weight 1 and bias 0 beside statistics that training has moved."""
    weight, bias = layer.weight, layer.bias
    mean, var = layer.running_mean, layer.running_var
    if weight is None or mean is None or var is None or not weight.numel:
        return
    untouched = weight.all_equal(1) and (bias is None or bias.all_equal(0))
    if untouched and not mean.all_equal(0) and not var.all_equal(1):
        yield Observation(
            "weight is 1 and bias 0 in every channel, though the running statistics have moved: no "
            "optimizer had them, they were frozen, or there were none (affine=False).",
            {"weight": 1.0, "bias": 0.0},
        )


def weight_decay_on_norm(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN405: weight or bias in a group of the optimizer that has weight decay."""
    decays = model.weight_decay
    held = {"weight": layer.weight, "bias": layer.bias}
    names = {role: f"{layer.name}.{role}".lstrip(".") for role, each in held.items() if each}
    if not layer.get(NormLayer.requires_grad, True):  # no gradient: the optimizer passes it by
        return
    found = {role: decays[name] for role, name in names.items() if decays.get(name)}
    if found:
        yield _decayed(found)
    elif not set(names.values()) <= decays.keys():
        raise UnknownFact(UNMATCHED)


def _decayed(found: Mapping[str, float]) -> Observation:
    decays = " and ".join(f"{value:.4g}" for value in dict.fromkeys(found.values()))
    return Observation(
        f"The optimizer has {' and '.join(found)} under weight decay ({decays}): it pulls to 0 "
        "what scales and shifts, and common recipes leave both out.",
        {"weight_decay": dict(found)},
    )
