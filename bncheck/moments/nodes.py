"""What a node makes of channels, kind by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bncheck.graph import Node, NodeKind
from bncheck.moments import elementwise, layout, weights
from bncheck.moments.distribution import Channels
from bncheck.moments.functions import apply
from bncheck.moments.norms import normalized
from bncheck.moments.roots import Roots
from bncheck.moments.space import Sizes, border_of, windows
from bncheck.tensor import Tensor

MOST_WEIGHTS = 2**31  # elements
WIDEST_GAP = 2**20  # channels


@dataclass(slots=True)
class Context:
    """What a node's meaning depends on beside its inputs, and how much may still be read.

    ``wants_deviation`` are the values for which it is needed, not only the mean.
    """

    sizes: Sizes
    roots: Roots
    wants_deviation: frozenset[str] = frozenset()
    weights_left: int = MOST_WEIGHTS

    def affords(self, tensor: Tensor) -> bool:
        """Whether a tensor may be read, which is then paid for."""
        self.weights_left -= tensor.numel
        return self.weights_left >= 0


Rule = Callable[[Node, Channels, Context], Channels | None]


def output(
    node: Node, place: int, inputs: Sequence[Channels | None], context: Context
) -> Channels | None:
    """The output of a node at one place; None where nothing is known about it.

    Raises UnknownFact where the file does not hold the values of a weight.
    """
    first = inputs[0] if inputs else None
    if node.kind is NodeKind.SPLIT:
        return layout.parted(node, first, place) if first and len(inputs) == 1 else None
    if place:
        return None
    if node.kind in (NodeKind.BATCH_NORM, NodeKind.INSTANCE_NORM):
        return normalized(node, first)
    if node.kind is NodeKind.CONCAT:
        return _concat(node, inputs, context)
    if node.kind in (NodeKind.ADD, NodeKind.MUL) and len(inputs) > 1:
        return _together(node, inputs, context.roots)
    rule = _RULES.get(node.kind)
    return rule(node, first, context) if rule and first else None


def _concat(node: Node, inputs: Sequence[Channels | None], context: Context) -> Channels | None:
    """Parts that are not known leave gaps, where it is known how wide they are."""
    axis = node.attributes.get("axis")
    parts = [
        each or _gap(context.sizes.width(v)) for v, each in zip(node.inputs, inputs, strict=True)
    ]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not any(inputs):
        return None
    return layout.joined(known, axis)


def _gap(width: int | None) -> Channels | None:
    known = width is not None and width <= WIDEST_GAP
    return Channels(np.full(width or 0, np.nan)) if known else None


def _together(node: Node, inputs: Sequence[Channels | None], roots: Roots) -> Channels | None:
    """Of branches that go up and down together, the mean of a sum is known, and no more."""
    combine = elementwise.summed if node.kind is NodeKind.ADD else elementwise.multiplied
    made = inputs[0]
    for each in inputs[1:]:
        made = combine(node, made, each) if made and each else None
    if made is None or len({each.base for each in inputs if each}) == 1:
        return made
    together = len({*map(roots.of, node.inputs)}) < len(node.inputs)
    return made.mean_only() if together else made


def _with_constant(node: Node, x: Channels, context: Context) -> Channels | None:
    rank = len(context.sizes.shape(node.inputs[0])) or None
    return elementwise.with_constant(node, x, rank) if node.parameters else None


def _through(node: Node, x: Channels, context: Context) -> Channels | None:
    if x.curve is None or x.border:
        return None
    curve = apply(node, x.curve)
    return None if curve is None else x.through(curve)


def _convolution(node: Node, x: Channels, context: Context) -> Channels | None:
    weight = node.parameters.get("weight")
    if not isinstance(weight, Tensor) or not context.affords(weight):
        return None
    space, rough = context.sizes.space(node.inputs[0]), node.outputs[0] in context.wants_deviation
    return _with_bias(node, weights.convolved(node, x, weight, space, rough))


def _linear(node: Node, x: Channels, context: Context) -> Channels | None:
    weight = node.parameters.get("weight")
    rank = len(context.sizes.shape(node.inputs[0]))
    if not isinstance(weight, Tensor) or x.border or x.axis != (rank or 2) - 1:
        return None
    if not context.affords(weight):
        return None
    rough = node.outputs[0] in context.wants_deviation
    return _with_bias(node, weights.linear(node, x, weight, rough))


def _with_bias(node: Node, x: Channels | None) -> Channels | None:
    bias, beta = node.parameters.get("bias"), node.attributes.get("beta", 1.0)
    if x is None or bias is None:
        return x
    if not isinstance(bias, Tensor) or not isinstance(beta, int | float):
        return None
    if bias.numel not in (1, x.mean.size):
        return None
    return replace(x, mean=x.mean + beta * weights.kept(bias))


def _average_pool(node: Node, x: Channels, context: Context) -> Channels | None:
    """The mean stays, but for the zeros of a padding that count.

    Over all of space, so much of the variance goes that what a prediction is off counts too much.
    """
    if x.border or node.attributes.get("divisor_override") or x.axis > 1:
        return None
    if node.attributes.get("output_size") == 1:
        return None
    padding = node.attributes.get("padding")
    if (
        isinstance(padding, tuple)
        and any(padding)
        and node.attributes.get("count_include_pad") is not False
    ):
        return _diluted(node, x, context)
    return x.mean_only()


def _diluted(node: Node, x: Channels, context: Context) -> Channels | None:
    space = context.sizes.space(node.inputs[0])
    along = windows(node, len(space), space) if space else []
    if space is None or not along:
        return None
    shares = [w.shares(size).mean() for w, size in zip(along, space, strict=True)]
    return replace(x.mean_only(), mean=x.mean * np.prod(shares))


def _resize(node: Node, x: Channels, context: Context) -> Channels | None:
    """Nearest repeats values; the others average, which takes from the variance."""
    if x.border:
        return None
    return replace(x, base=object()) if node.attributes.get("mode") == "nearest" else x.mean_only()


def _pad(node: Node, x: Channels, context: Context) -> Channels | None:
    """Zeros are left to the convolution that follows."""
    if node.attributes.get("mode") != "constant":
        return x.mean_only()
    rank = len(context.sizes.shape(node.inputs[0])) - 2
    border = border_of(node, rank) if rank > 0 else None
    if border is None or node.attributes.get("value") != 0 or x.border or x.axis != 1:
        return None
    return replace(x, border=border, base=object())


def _reshape(node: Node, x: Channels, context: Context) -> Channels | None:
    if x.spread or x.border:
        return None
    return layout.reshaped(node, x, context.sizes.shape(node.inputs[0]))


def _as_it_is(node: Node, x: Channels, context: Context) -> Channels | None:
    return x


_RULES: Mapping[NodeKind, Rule] = {
    NodeKind.CONV: _convolution,
    NodeKind.CONV_TRANSPOSE: _convolution,
    NodeKind.LINEAR: _linear,
    NodeKind.ADD: _with_constant,
    NodeKind.MUL: _with_constant,
    NodeKind.RELU: _through,
    NodeKind.ACTIVATION: _through,
    NodeKind.DROPOUT: _as_it_is,
    NodeKind.IDENTITY: _as_it_is,
    NodeKind.QUANTIZE: _as_it_is,
    NodeKind.AVERAGE_POOL: _average_pool,
    NodeKind.RESIZE: _resize,
    NodeKind.PAD: _pad,
    NodeKind.RESHAPE: _reshape,
}
