"""BN7xx: BatchNorm that does nothing, that was taken apart, or that came too late to be folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from math import inf, isfinite, sqrt

from bncheck.checks.scaling import scales_or_shifts
from bncheck.checks.topology import LINEAR_OPS, data, upstream
from bncheck.checks.words import LISTED, label, some
from bncheck.finding import Observation
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model, NormLayer

BETWEEN = frozenset({NodeKind.IDENTITY, NodeKind.QUANTIZE})
LARGEST_EPS = 0.1  # from there on it is BN506 that speaks
AS_CREATED = (0.0, 1.0, 1.0, 0.0)
Channel = tuple[float, float, float, float]  # mean, variance, weight, bias


def identity_batch_norm(layer: NormLayer, *, tolerance: float = 1e-5) -> Iterator[Observation]:
    """BN702: in every channel a scale of 1 and a shift of 0, within ``tolerance``."""
    channels = _channels(layer)
    # Most layers are no identity whatever eps is: only for the others it has to be known.
    if not channels or not _some_eps_might(channels, tolerance) or _is_new(channels):
        return
    eps = layer.eps
    if eps is None:
        return
    scale, shift = _distance(channels, eps)
    if scale < tolerance and shift < tolerance:
        yield Observation(
            f"Does nothing: in all {len(channels)} channels the scale is 1 within {scale:.1g} and "
            f"the shift 0 within {shift:.1g}.",
            {"scale_error": scale, "shift_error": shift, "channels": len(channels)},
        )


def _channels(layer: NormLayer) -> Sequence[Channel]:
    """The numbers of each channel; none where there are no statistics, or sizes disagree."""
    mean, var, weight, bias = layer.running_mean, layer.running_var, layer.weight, layer.bias
    if mean is None or var is None:
        return ()
    if any(t is not None and t.numel != mean.numel for t in (var, weight, bias)):
        return ()
    ones = repeat(1.0) if weight is None else weight.values
    zeros = repeat(0.0) if bias is None else bias.values
    return tuple(zip(mean.values, var.values, ones, zeros, strict=False))


def _some_eps_might(channels: Iterable[Channel], tolerance: float) -> bool:
    """Whether there is an eps with which each channel's scale is 1 and its shift 0."""
    low, high = 0.0, LARGEST_EPS
    for mean, var, weight, bias in channels:
        if not abs(bias - mean) < tolerance * (1 + abs(mean)) or not weight > 0 or var < 0:
            return False
        low = max(low, (weight / (1 + tolerance)) ** 2 - var)
        high = min(high, (weight / (1 - tolerance)) ** 2 - var)
        if not low <= high:
            return False
    return True


def _is_new(channels: Iterable[Channel]) -> bool:
    return all(channel == AS_CREATED for channel in channels)


def _distance(channels: Iterable[Channel], eps: float) -> tuple[float, float]:
    """How far scales are from 1 and shifts from 0, at most; infinite where there is no root."""
    scale = shift = 0.0
    for mean, var, weight, bias in channels:
        if not (isfinite(var + eps) and var + eps > 0):
            return inf, inf
        slope = weight / sqrt(var + eps)
        scale = max(scale, abs(slope - 1))
        shift = max(shift, abs(bias - slope * mean))
    return scale, shift


def decomposed_batch_norm(model: Model) -> Iterator[Observation]:
    """BN705: Mul, then Add by constants for each channel, after a linear op."""
    graph = model.graph
    found = [
        node
        for node in graph.nodes
        if node.kind in LINEAR_OPS and _scales_then_shifts(_followers(node, graph))
    ]
    if found:
        names = [label(node) for node in found]
        count = "1 linear op is" if len(found) == 1 else f"{len(found)} linear ops are"
        yield Observation(
            f"{count} followed by Mul and Add with a constant for each channel ({some(names)}): "
            "a BatchNorm in parts, which can be folded.",
            {"count": len(found), "after": names[:LISTED]},
        )


def _followers(linear: Node, graph: Graph) -> list[Node]:
    """What scales or shifts each channel directly after a linear op, as far as it goes."""
    followers: list[Node] = []
    value = linear.outputs[0]
    while graph.uses(value) == 1:
        readers = (node for node in graph.consumers(value) if node.kind is not NodeKind.SHAPE)
        follower = next(readers, None)
        if follower is None or not scales_or_shifts(graph, follower, linear):
            break
        followers.append(follower)
        value = follower.outputs[0]
    return followers


def _scales_then_shifts(followers: Sequence[Node]) -> bool:
    kinds = [node.kind for node in followers]
    return NodeKind.MUL in kinds and NodeKind.ADD in kinds[kinds.index(NodeKind.MUL) :]


def quantize_before_fold(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN708: the output of a linear op is quantized before its BatchNorm."""
    for call in layer.calls:
        way = upstream(model.order, data(call), lambda node: node.kind in BETWEEN)
        quantized = [node for node in way.passed if node.kind is NodeKind.QUANTIZE]
        linear = way.source
        if not quantized or linear is None or linear.kind not in LINEAR_OPS:
            continue
        if way.is_exclusive(model.order):
            yield Observation(
                f"The output of {label(linear)} ({linear.op}) is quantized ({quantized[-1].op}) "
                "before this layer: folding is no longer possible, and the range is that of "
                "values that are not normalized yet.",
                {"linear": label(linear), "quantize": [label(node) for node in quantized]},
            )
            return
