"""Operators that take a per-channel map into their own parameters, and on which conditions.

A map on what an operator makes scales its output channels, a map on what it reads its input
channels:

    s (W x + b) + t = (s W) x + (s b + t)        W (s x + t) + b = (W s) x + (W t + b)

The second is exact only where the operator pads nothing in, or where t is zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bncheck.folding.arguments import flag, integer, integers
from bncheck.folding.channels import ChannelMap
from bncheck.folding.reasons import Blocked, Reason
from bncheck.graph import Node, NodeKind, Shape
from bncheck.tensor import Tensor

K = NodeKind
CHANNELS = 1
CONVOLUTIONS = frozenset({K.CONV, K.CONV_TRANSPOSE})
LINEAR = CONVOLUTIONS | {K.LINEAR}
NORMS = frozenset({K.BATCH_NORM, K.INSTANCE_NORM, K.GROUP_NORM, K.LAYER_NORM, K.RMS_NORM})
LAST = frozenset({K.LINEAR, K.LAYER_NORM, K.RMS_NORM})


class Side(StrEnum):
    """Where a map acts on an operator."""

    OUTPUT = "output"
    INPUT = "input"
    PARALLEL = "parallel"  # added to what a convolution makes of the same input


@dataclass(frozen=True, slots=True)
class Step:
    """A change of an operator's parameters: a map of all its channels on one side."""

    side: Side
    map: ChannelMap


def absorbs_output(node: Node, m: ChannelMap, shape: Shape | None) -> bool:
    """Whether a node takes in a map on what it makes; ``shape`` is that of its output.

    False: it is no operator that could. Raises Blocked where it could but for something.
    """
    if node.kind not in LINEAR and node.kind not in NORMS:
        return False
    _require_axis(node, m, shape)
    _require_weight(node, m, output_channels(node))
    if m.has_shift and (node.kind is K.RMS_NORM or not _takes_bias(node)):
        raise Blocked(Reason.NO_BIAS, node)
    return True


def absorbs_input(node: Node, m: ChannelMap, shape: Shape | None) -> bool:
    """Whether a node takes in a map on the data that it reads, of this shape."""
    if node.kind not in LINEAR and node.kind is not K.BATCH_NORM:
        return False
    _require_axis(node, m, shape)
    _require_weight(node, m, _inputs(node))
    if m.has_shift and node.kind in CONVOLUTIONS and not _pads_nothing(node):
        raise Blocked(Reason.PADDING, node)
    if m.has_shift and not _takes_bias(node):
        raise Blocked(Reason.NO_BIAS, node)
    return True


def absorbs_parallel(node: Node, m: ChannelMap) -> bool:
    """Whether a convolution can give s x + t on top: it has a tap that reads x where it is."""
    if node.kind is not K.CONV or m.axes != (CHANNELS,):
        return False
    weight, kernel = node.parameters.get("weight"), integers(node, "kernel_size")
    if not isinstance(weight, Tensor) or not kernel or any(size % 2 == 0 for size in kernel):
        return False
    centred = _padding(node) == tuple(
        d * (size // 2) for d, size in zip(_each(node, "dilation", kernel), kernel, strict=True)
    )
    steps = {*_each(node, "stride", kernel)}
    same = _inputs(node) == output_channels(node) == m.sizes[0]
    return bool(same and steps == {1} and (centred or node.attributes.get("padding") == "same"))


def _each(node: Node, name: str, kernel: tuple[int, ...]) -> tuple[int, ...]:
    return integers(node, name) or (1,) * len(kernel)


def _require_axis(node: Node, m: ChannelMap, shape: Shape | None) -> None:
    if node.kind in LAST and shape is None:
        raise Blocked(Reason.NO_SHAPE, node)
    last = len(shape) - 1 if shape else None
    wanted = last if node.kind in LAST else CHANNELS
    if node.kind is K.LAYER_NORM and node.attributes.get("axis") != -1:
        wanted = None
    if wanted is None or m.axes != (wanted,):
        raise Blocked(Reason.CHANNELS, node)


def _require_weight(node: Node, m: ChannelMap, channels: int | None) -> None:
    if any(not isinstance(held, Tensor) for held in node.parameters.values()):
        raise Blocked(Reason.COMPUTED, node)
    if channels is None:
        raise Blocked(Reason.COMPUTED if node.parameters else Reason.NO_BIAS, node)
    if m.sizes != (channels,):
        raise Blocked(Reason.CHANNELS, node)
    if node.kind is K.BATCH_NORM and node.attributes.get("training") is True:
        raise Blocked(Reason.TRAINING, node)


def output_channels(node: Node) -> int | None:
    """How many channels an operator makes, as its stored weight says."""
    weight = node.parameters.get("weight")
    if not isinstance(weight, Tensor):
        return None
    if node.kind is K.CONV_TRANSPOSE:
        groups = integer(node, "groups")
        return weight.shape[1] * groups if groups else None
    if node.kind is K.LINEAR:
        known = len(weight.shape) == 2 and not flag(node, "transA")
        return weight.shape[not flag(node, "transB")] if known else None
    return weight.shape[0] if weight.shape else None


def _inputs(node: Node) -> int | None:
    """How many channels an operator reads, as its stored weight says."""
    weight, groups = node.parameters.get("weight"), integer(node, "groups")
    if not isinstance(weight, Tensor):
        return None
    if node.kind is K.CONV:
        return weight.shape[1] * groups if groups and len(weight.shape) > 1 else None
    if node.kind is K.LINEAR:
        known = len(weight.shape) == 2 and not flag(node, "transA")
        return weight.shape[flag(node, "transB")] if known else None
    return weight.shape[0] if weight.shape else None


def _takes_bias(node: Node) -> bool:
    if node.kind in NORMS:
        return "bias" in node.parameters
    return node.kind in CONVOLUTIONS or node.attributes.get("beta", 0.0) != 0


def _padding(node: Node) -> tuple[int, ...] | None:
    """The padding of each axis of space where both sides have the same."""
    sides, kernel = integers(node, "padding"), integers(node, "kernel_size")
    if sides is None or kernel is None:
        return None
    half = len(kernel)
    if len(sides) == 2 * half and sides[:half] == sides[half:]:
        return sides[:half]
    return sides if len(sides) == half else None


def _pads_nothing(node: Node) -> bool:
    """Whether zeros never meet the weight; a transposed convolution always has borders."""
    sides = integers(node, "padding")
    alone = {*(integers(node, "kernel_size") or (0,))} == {1}
    if node.kind is K.CONV_TRANSPOSE:
        return False
    return (sides is not None and not any(sides)) or (
        alone and node.attributes.get("padding") == "same"
    )
