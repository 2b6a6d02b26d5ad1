"""How a per-channel map passes an operator, against the flow of data and along with it.

``upstream`` turns a map on what an operator makes into maps on what it reads, ``downstream`` the
other way round: applying the map there instead gives the same result. Both raise Blocked where
that is not so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bncheck.folding.arguments import flag, integer, integers, padded_axes, permutation
from bncheck.folding.channels import ChannelMap
from bncheck.folding.reasons import Blocked, Reason
from bncheck.folding.reshaping import reshaped
from bncheck.graph import Node, NodeKind, Shape

K = NodeKind
CHANNELS = 1
Shapes = Mapping[str, Shape]


Maps = Mapping[str, ChannelMap]  # by the value to which each applies


def upstream(node: Node, output: int, m: ChannelMap, shapes: Shapes) -> list[Maps]:
    """Ways in which a map on an output may be applied to what the node reads, the best first."""
    if node.kind is K.ADD:
        return _into_terms(node, m, shapes)
    if node.kind is K.MUL:
        return _into_factors(node, m, shapes)
    if node.kind is K.CONCAT:
        return [_into_joined(node, m, shapes)]
    if node.kind is K.SPLIT:
        return [_one(node.inputs[0], _before_split(node, output, m, shapes))]
    if output:
        raise Blocked(Reason.OPERATOR, node)
    moved = _same_axes(node, m) or _reshape(node, m, shapes, node.outputs[0], node.inputs[0])
    return [_one(node.inputs[0], moved)]


def downstream(node: Node, position: int, m: ChannelMap, shapes: Shapes) -> Maps:
    """The maps on what a node makes that stand for a map on one of its inputs."""
    if node.kind is K.CONCAT:
        return _one(node.outputs[0], _after_join(node, position, m, shapes))
    if node.kind is K.SPLIT:
        parts = enumerate(node.outputs)
        return {value: _after_split(node, i, m, shapes) for i, value in parts if value}
    if position or any(node.outputs[1:]):
        raise Blocked(Reason.OPERATOR, node)
    moved = _same_axes(node, m) or _reshape(node, m, shapes, node.inputs[0], node.outputs[0])
    return _one(node.outputs[0], moved)


def _one(value: str, m: ChannelMap) -> Maps:
    return {value: m}


# Operators that leave the axes as they are


def _same_axes(node: Node, m: ChannelMap) -> ChannelMap | None:
    """The map itself where it passes; None for an operator that moves axes about."""
    if node.kind is K.RESHAPE:
        return None
    check = _CONDITIONS.get(node.kind)
    if check is None:
        raise Blocked(_NAMED.get(node.kind, Reason.OPERATOR), node)
    check(node, m)
    return m


def _identity(node: Node, m: ChannelMap) -> None:
    if "dtype" in node.attributes:  # a cast: what is folded would be rounded elsewhere
        raise Blocked(Reason.PRECISION, node)


def _dropout(node: Node, m: ChannelMap) -> None:
    if node.attributes.get("training") is not False and node.attributes.get("p") != 0:
        raise Blocked(Reason.TRAINING, node)


def _along_channels(node: Node, m: ChannelMap) -> None:
    if m.axes != (CHANNELS,):
        raise Blocked(Reason.CHANNELS, node)


def _average(node: Node, m: ChannelMap) -> None:
    """A mean takes a shift as it is, unless it counts zeros of the padding."""
    _along_channels(node, m)
    padded = node.attributes.get("padding", 0) not in (0, ()) and any(_sides(node))
    counts_zeros = flag(node, "count_include_pad") and padded
    if m.has_shift and (counts_zeros or node.attributes.get("divisor_override")):
        raise Blocked(Reason.PADDING, node)


def _sides(node: Node) -> Sequence[int]:
    sides = integers(node, "padding")
    return (1,) if sides is None else sides


def _maximum(node: Node, m: ChannelMap) -> None:
    _along_channels(node, m)
    if not m.is_positive:
        raise Blocked(Reason.ACTIVATION, node)


def _rectifier(node: Node, m: ChannelMap) -> None:
    """relu(s x) = s relu(x) for s > 0, and nothing else."""
    if not m.is_positive or m.has_shift:
        raise Blocked(Reason.ACTIVATION, node)


def _activation(node: Node, m: ChannelMap) -> None:
    if node.attributes.get("homogeneous") is not True:
        raise Blocked(Reason.ACTIVATION, node)
    _rectifier(node, m)


def _resize(node: Node, m: ChannelMap) -> None:
    """Weights of an interpolation add up to one."""
    _along_channels(node, m)
    if node.attributes.get("mode") is None and m.has_shift:
        raise Blocked(Reason.OPERATOR, node)


def _pad(node: Node, m: ChannelMap) -> None:
    if any(axis < 0 for axis in m.axes) or padded_axes(node, 1 << 6) & {*m.axes}:
        raise Blocked(Reason.CHANNELS, node)
    repeats = node.attributes.get("mode") in ("reflect", "replicate", "circular")
    zeros = node.attributes.get("mode") == "constant" and node.attributes.get("value") == 0
    if not repeats and (m.has_shift or not zeros):
        raise Blocked(Reason.PADDING, node)


_CONDITIONS: Mapping[NodeKind, Callable[[Node, ChannelMap], None]] = {
    K.IDENTITY: _identity,
    K.DROPOUT: _dropout,
    K.AVERAGE_POOL: _average,
    K.MAX_POOL: _maximum,
    K.RELU: _rectifier,
    K.ACTIVATION: _activation,
    K.RESIZE: _resize,
    K.PAD: _pad,
}
_NAMED = {K.QUANTIZE: Reason.QUANTIZED}


# Reshaping


def _reshape(node: Node, m: ChannelMap, shapes: Shapes, here: str, there: str) -> ChannelMap:
    """A map on the value ``here``, as one on ``there``: the data of a RESHAPE and what it makes."""
    forward = here == node.inputs[0]
    start, goal = shapes.get(here), shapes.get(there)
    if start is None or goal is None:
        raise Blocked(Reason.CHANNELS, node)
    order = permutation(node, len(start))
    if order is not None:
        return _permuted(node, m, order if not forward else _inverse(order))
    if "squeeze" in node.attributes or "unsqueeze" in node.attributes:
        return _with(node, lambda: _around_ones(node, m, len(start), len(goal)))
    if not {"perm", "dim0", "groups", "upscale_factor", "downscale_factor"} & {*node.attributes}:
        return _with(node, lambda: reshaped(m, start, goal, _keeps_first(node)))
    return _shuffled(node, m, shapes, forward)


def _around_ones(node: Node, m: ChannelMap, here: int, there: int) -> ChannelMap:
    """Through a squeeze or unsqueeze, from a value of rank ``here`` to one of rank ``there``."""
    longer = max(here, there)
    axes = integers(node, "squeeze") or integers(node, "unsqueeze") or ()
    ones = {axis % longer for axis in axes}
    rest = [axis for axis in range(longer) if axis not in ones]
    if here < there:
        return m.relabelled(tuple(rest[axis] for axis in m.axes), m.sizes)
    if ones & {*m.axes}:
        raise Blocked(Reason.CHANNELS)
    return m.relabelled(tuple(map(rest.index, m.axes)), m.sizes)


def _with(node: Node, make: Callable[[], ChannelMap]) -> ChannelMap:
    try:
        return make()
    except Blocked as blocked:
        raise Blocked(blocked.obstacle.reason, node) from None


def _keeps_first(node: Node) -> bool:
    """Whether the first axis certainly stays what it is."""
    asked = node.attributes.get("shape")
    if isinstance(asked, tuple):
        return bool(asked) and asked[0] == 0
    first = integer(node, "start_dim")
    return first is None or first > 0


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))


def _permuted(node: Node, m: ChannelMap, order: tuple[int, ...]) -> ChannelMap:
    if any(axis < 0 or axis >= len(order) for axis in m.axes):
        raise Blocked(Reason.CHANNELS, node)
    moved = tuple(order[axis] for axis in m.axes)
    ascending = tuple(sorted(moved))
    sizes = dict(zip(moved, m.sizes, strict=True))
    m = m.relabelled(moved, m.sizes)
    return m.spread(ascending, tuple(sizes[a] for a in ascending)) if moved != ascending else m


def _shuffled(node: Node, m: ChannelMap, shapes: Shapes, forward: bool) -> ChannelMap:
    """A channel shuffle, or a pixel shuffle: which channel of the data each one comes from."""
    _along_channels(node, m)
    data = shapes.get(node.inputs[0], ())
    channels = data[CHANNELS] if len(data) > CHANNELS else None
    if channels is None:
        raise Blocked(Reason.CHANNELS, node)
    groups = integer(node, "groups")
    if groups:
        source = [(at % groups) * (channels // groups) + at // groups for at in range(channels)]
        return m.taken(CHANNELS, source if forward else list(_inverse(tuple(source))))
    return _pixels(node, m, channels, len(data) - 2, forward)


def _pixels(node: Node, m: ChannelMap, channels: int, space: int, forward: bool) -> ChannelMap:
    up, down = integer(node, "upscale_factor"), integer(node, "downscale_factor")
    block = (up or down or 0) ** space
    if not block or (up and channels % block):
        raise Blocked(Reason.CHANNELS, node)
    few, many = (channels // block, channels) if up else (channels, channels * block)
    depth_first = node.attributes.get("mode") == "DCR"
    few_of = [at % few if depth_first else at // block for at in range(many)]
    if forward is bool(down):
        return m.taken(CHANNELS, few_of)
    return _gathered(node, m, few_of, few)


def _gathered(node: Node, m: ChannelMap, few_of: Sequence[int], few: int) -> ChannelMap:
    """One channel for all that become its pixels, which must agree."""
    first = m.taken(CHANNELS, [few_of.index(channel) for channel in range(few)])
    again = first.taken(CHANNELS, few_of)
    if any([*a.index] != [*b.index] for a, b in zip(again.parts, m.parts, strict=True)):
        raise Blocked(Reason.CHANNELS, node)
    return first


# Operators with several inputs or outputs


def _axis_of(m: ChannelMap, node: Node) -> int:
    if len(m.axes) != 1:
        raise Blocked(Reason.CHANNELS, node)
    return m.axes[0]


def _has_channels(shape: Shape | None, rank: int, m: ChannelMap) -> bool:
    """Whether a value has all channels of a map along its axis, without being broadcast."""
    return shape is not None and len(shape) == rank and _sizes_at(shape, m) == m.sizes


def _sizes_at(shape: Shape, m: ChannelMap) -> Shape:
    return tuple(shape[axis] if -1 < axis < len(shape) else None for axis in m.axes)


def _operands(node: Node, m: ChannelMap, shapes: Shapes) -> tuple[str, ...]:
    """The data of a sum or product, each with all channels of the map."""
    result = shapes.get(node.outputs[0])
    if node.parameters or len({*node.inputs}) < len(node.inputs) or not result:
        raise Blocked(Reason.OPERATOR, node)
    return node.inputs


def _into_terms(node: Node, m: ChannelMap, shapes: Shapes) -> list[Maps]:
    """s (a + b) + t = (s a + t) + s b; the shift goes into one of the terms."""
    terms = _operands(node, m, shapes)
    rank = len(shapes[node.outputs[0]])
    if not all(_has_channels(shapes.get(term), rank, m) for term in terms):
        raise Blocked(Reason.CHANNELS, node)
    takers = terms[:1] if node.attributes.get("subtract") else terms
    bare = m.scale_only()
    return [{term: m if term == taker else bare for term in terms} for taker in takers]


def _into_factors(node: Node, m: ChannelMap, shapes: Shapes) -> list[Maps]:
    """s (a * b) = (s a) * b."""
    factors = _operands(node, m, shapes)
    if m.has_shift:
        raise Blocked(Reason.OPERATOR, node)
    rank = len(shapes[node.outputs[0]])
    takers = factors[:1] if node.attributes.get("divide") else factors
    able = [taker for taker in takers if _has_channels(shapes.get(taker), rank, m)]
    if not able:
        raise Blocked(Reason.CHANNELS, node)
    return [_one(taker, m) for taker in able]


def _join(node: Node, shapes: Shapes) -> tuple[int, list[int]]:
    """The axis of a CONCAT, and where along it each part begins, the end of the last included."""
    ranks = {len(shapes[value]) for value in node.inputs if value in shapes}
    axis = integer(node, "axis")
    if len(ranks) != 1 or axis is None:
        raise Blocked(Reason.CHANNELS, node)
    axis %= ranks.pop()
    starts = [0]
    for value in node.inputs:
        size = shapes[value][axis] if value in shapes else None
        starts.append(-1 if size is None or starts[-1] < 0 else starts[-1] + size)
    return axis, starts


def _into_joined(node: Node, m: ChannelMap, shapes: Shapes) -> Maps:
    if len({*node.inputs}) < len(node.inputs):
        raise Blocked(Reason.READ_ELSEWHERE, node)
    axis, starts = _join(node, shapes)
    if axis not in m.axes:
        return dict.fromkeys(node.inputs, m)
    if starts[-1] != m.sizes[m.axes.index(axis)]:
        raise Blocked(Reason.CHANNELS, node)
    ranges = map(range, starts, starts[1:])
    return {value: m.taken(axis, r) for value, r in zip(node.inputs, ranges, strict=True)}


def _after_join(node: Node, position: int, m: ChannelMap, shapes: Shapes) -> ChannelMap:
    axis, starts = _join(node, shapes)
    if axis not in m.axes:  # the other parts would need the same map
        raise Blocked(Reason.OPERATOR, node)
    if starts[-1] < 0 or len(m.axes) != 1:
        raise Blocked(Reason.CHANNELS, node)
    return m.placed(axis, range(starts[position], starts[position + 1]), starts[-1])


@dataclass(frozen=True, slots=True)
class Cut:
    """Which places along an axis an output of a SPLIT holds; the axis is gone where it is one."""

    output: str
    axis: int
    places: Sequence[int]
    size: int
    loses_axis: bool = False

    def is_apart(self, other: Cut) -> bool:
        """Whether the two hold no place in common."""
        return self.axis == other.axis and {*self.places}.isdisjoint(other.places)


def cut(node: Node, output: int, shapes: Shapes) -> Cut:
    """What one output of a SPLIT holds. Raises Blocked where the file does not tell."""
    shape, axis = shapes.get(node.inputs[0]), _cut_axis(node)
    if node.kind is not K.SPLIT or not shape or axis is None or shape[axis % len(shape)] is None:
        raise Blocked(Reason.CHANNELS, node)
    axis %= len(shape)
    size = shape[axis] or 0
    return Cut(node.outputs[output], axis, _places(node, output, size), size, _loses_its_axis(node))


def _cut_axis(node: Node) -> int | None:
    """The one axis that a SPLIT cuts."""
    axes = integers(node, "axes")
    return axes[0] if axes and len(axes) == 1 else integer(node, "axis")


def _loses_its_axis(node: Node) -> bool:
    return "index" in node.attributes or not flag(node, "keepdim", True)


def _places(node: Node, output: int, size: int) -> Sequence[int]:
    sizes, index = integers(node, "sizes"), integer(node, "index")
    indices, starts = integers(node, "indices"), integers(node, "starts")
    if sizes is not None and output < len(sizes):
        begin = sum(sizes[:output])
        found: Sequence[int] = range(begin, begin + sizes[output])
    elif index is not None:
        found = (index % size,)
    elif indices is not None:
        found = tuple(each % size for each in indices)
    elif starts is not None and (ends := integers(node, "ends")) is not None:
        step = (integers(node, "steps") or (1,))[0]
        found = range(size)[starts[0] : ends[0] : step]
    else:
        raise Blocked(Reason.CHANNELS, node)
    if any(not 0 <= place < size for place in found) or len({*found}) < len(found):
        raise Blocked(Reason.CHANNELS, node)
    return found


def _before_split(node: Node, output: int, m: ChannelMap, shapes: Shapes) -> ChannelMap:
    part = _cut_near(node, output, m, shapes)
    if part is None:
        return m
    if part.loses_axis:
        m = m.relabelled(tuple(a + (a >= part.axis) for a in m.axes), m.sizes)
        m = m.spread((part.axis, *m.axes), (1, *m.sizes))
        if len(m.axes) > 2 or m.axes[0] > m.axes[1]:
            m = m.spread(tuple(sorted(m.axes)), _sorted_sizes(m))
    if part.axis not in m.axes:
        return m
    return m.placed(part.axis, part.places, part.size)


def _sorted_sizes(m: ChannelMap) -> tuple[int, ...]:
    return tuple(size for _, size in sorted(zip(m.axes, m.sizes, strict=True)))


def _after_split(node: Node, output: int, m: ChannelMap, shapes: Shapes) -> ChannelMap:
    part = _cut_near(node, output, m, shapes)
    if part is None:
        return m
    if part.axis in m.axes:
        m = m.taken(part.axis, part.places)
    if not part.loses_axis:
        return m
    if m.axes == (part.axis,):
        raise Blocked(Reason.CHANNELS, node)
    if part.axis in m.axes:
        m = m.narrowed()
    return m.relabelled(tuple(a - (a > part.axis) for a in m.axes), m.sizes)


def _cut_near(node: Node, output: int, m: ChannelMap, shapes: Shapes) -> Cut | None:
    """The cut, None where it certainly concerns other axes than those of the map."""
    axis = _cut_axis(node)
    named = integers(node, "axes") if axis is None else (axis,)
    keeps = not _loses_its_axis(node)
    if keeps and named and all(each >= 0 and each not in m.axes for each in named):
        return None
    return cut(node, output, shapes)
