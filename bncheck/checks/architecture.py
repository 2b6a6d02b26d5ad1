"""BN6xx: over which axes, in how many groups and places, and how late a layer normalizes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from bncheck.checks.topology import KEEP_VALUES, LINEAR_OPS, NORMS, data, nearest, upstream
from bncheck.checks.words import label
from bncheck.facts import Unknown, UnknownFact
from bncheck.finding import Level, Observation
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model, NormLayer
from bncheck.tensor import Tensor

CONVOLUTIONS = frozenset({NodeKind.CONV, NodeKind.CONV_TRANSPOSE})
ONE_BY_ONE = KEEP_VALUES | {NodeKind.RELU, NodeKind.ACTIVATION, NodeKind.QUANTIZE}
SPATIAL = frozenset({NodeKind.MAX_POOL, NodeKind.AVERAGE_POOL, NodeKind.RESIZE, NodeKind.PAD})
JOINS = frozenset({NodeKind.ADD, NodeKind.MUL, NodeKind.CONCAT})


def layer_norm_axis(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN604: the last axis of a convolution's output, which is one of space."""
    for call in layer.calls:
        if call.kind is NodeKind.LAYER_NORM and _first_axis(call) == -1:
            convolution = _convolution_behind(call, model.order)
            if convolution is not None:
                yield _over_space(layer, convolution)
                return


def _first_axis(call: Node) -> object:
    weight = call.parameters.get("weight")
    held = -len(weight.shape) if isinstance(weight, Tensor) else None
    return call.attributes.get("axis", held)


def _convolution_behind(call: Node, graph: Graph) -> Node | None:
    """The convolution whose output has the axes that a LayerNorm sees: none that was permuted."""
    if graph.complete and graph.kinds.isdisjoint(CONVOLUTIONS):
        return None
    found = nearest(graph, data(call), lambda node: node.kind in CONVOLUTIONS, _keeps_axes)
    if isinstance(found, Unknown):
        raise UnknownFact(found)
    return found if found and _rank(found) > 2 else None


def _keeps_axes(node: Node) -> bool:
    if node.kind in SPATIAL:
        return node.attributes.get("keepdim") is not False
    return node.kind in ONE_BY_ONE | NORMS | JOINS


def _rank(convolution: Node) -> int:
    weight = convolution.parameters.get("weight")
    return len(weight.shape) if isinstance(weight, Tensor) else 0


def _over_space(layer: NormLayer, convolution: Node) -> Observation:
    weight = layer.get(NormLayer.weight, None)
    length = f", of length {weight.numel}" if weight is not None else ""
    image = _rank(convolution) > 3
    axis = "the width of the image" if image else "the position"
    return Observation(
        f"Normalizes over the last axis{length}: behind {label(convolution)} "
        f"({convolution.op}) that is {axis}, not the channels.",
        {"convolution": label(convolution), "length": weight.numel if weight is not None else None},
        None if image else Level.INFO,
    )


def shared_batch_norm(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN605: one set of running statistics, and several places that use it."""
    calls = _calls_with_its_statistics(layer, model.order)
    if len(calls) < 2 or _is_frozen(layer):
        return
    mixes = layer.get(NormLayer.training, False) and _sees_different_layers(calls, model.order)
    said = (
        "behind different layers: each of them moves the one running mean and variance, which "
        "then fit none."
        if mixes
        else "with one set of running statistics: right only if all see the same distribution."
    )
    yield Observation(
        f"Called at {len(calls)} places {said}",
        {"calls": len(calls)},
        None if mixes else Level.INFO,
    )


def _calls_with_its_statistics(layer: NormLayer, graph: Graph) -> list[Node]:
    """The calls that use a layer's running mean, if the first of them is its own.

    A module under two names may be two layers of one tensor.
    """
    own = next((_running_mean(call) for call in layer.calls), None)
    if own is None or graph.holders(own) < 2:
        return []
    calls = [node for node in graph.nodes if _is_same(_running_mean(node), own)]
    return calls if calls and calls[0] in layer.calls else []


def _running_mean(call: Node) -> Tensor | None:
    mean = call.parameters.get("running_mean") if call.kind is NodeKind.BATCH_NORM else None
    return mean if isinstance(mean, Tensor) else None


def _is_same(tensor: Tensor | None, other: Tensor) -> bool:
    """Whether two tensors are one: views of one storage may lie at different places in it."""
    if tensor is None or tensor is other:
        return tensor is not None
    shared = tensor.storage is not None and tensor.storage == other.storage
    return shared and tensor.shape == other.shape and tensor.values == other.values


def _is_frozen(layer: NormLayer) -> bool:
    evaluating = not layer.get(NormLayer.training, True)
    return evaluating and not layer.get(NormLayer.requires_grad, True)


def _sees_different_layers(calls: Sequence[Node], graph: Graph) -> bool:
    """Whether the calls follow linear ops of different weights; twins (siamese) share theirs."""
    try:
        ways = [upstream(graph, data(call), _goes_on) for call in calls]
    except UnknownFact:
        return False
    weights = [_weight(way.source) for way in ways]
    return None not in weights and len(set(weights)) > 1


def _goes_on(node: Node) -> bool:
    return node.kind in ONE_BY_ONE | SPATIAL | {NodeKind.RESHAPE}


def _weight(node: Node | None) -> Hashable:
    """What tells a linear op's weight from others; None for any other node."""
    weight = node.parameters.get("weight") if node and node.kind in LINEAR_OPS else None
    if not isinstance(weight, Tensor):
        return None
    return id(weight) if weight.storage is None else weight.storage


def single_channel_groups(layer: NormLayer) -> Iterator[Observation]:
    """BN606: as many groups as channels."""
    groups = layer.num_groups
    if groups > 1 and groups == layer.num_features:
        yield Observation(
            f"{groups} groups of one channel: that is InstanceNorm, which drops each channel's "
            "mean and scale.",
            {"num_groups": groups, "num_features": groups},
        )


def batch_norm_on_output(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN607: nothing follows but Identity, Dropout or reshaping."""
    if any(_is_last(call, model.graph) for call in layer.calls):
        yield Observation(
            "The last operation before an output of the model: weight and bias set the scale of "
            "the outputs, and running statistics shift them.",
            {"last": True},
        )


def _is_last(call: Node, graph: Graph) -> bool:
    outputs = set(graph.outputs)
    waiting = list(call.outputs[:1])
    while waiting:
        value = waiting.pop()
        if value in outputs:
            return True
        followers = graph.downstream(value)
        waiting += [
            node.outputs[0]
            for node in followers
            if node.kind in KEEP_VALUES | {NodeKind.RESHAPE} and node.inputs[0] == value
        ]
    return False
