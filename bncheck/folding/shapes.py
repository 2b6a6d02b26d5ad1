"""Ranks and channel counts of values, as far as a graph shows them.

What the file says of shapes comes first; the rest follows from the operators: a Conv gives as many
channels as its weight has, and reads as many as its weight takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from bncheck.folding.arguments import flag, integer, integers
from bncheck.graph import Graph, Node, NodeKind, Shape
from bncheck.tensor import Tensor

K = NodeKind
SAME = frozenset({K.BATCH_NORM, K.INSTANCE_NORM, K.GROUP_NORM, K.LAYER_NORM, K.RMS_NORM, K.RELU})
SAME |= frozenset({K.LOCAL_RESPONSE_NORM, K.ACTIVATION, K.DROPOUT, K.IDENTITY, K.QUANTIZE})


def shapes(graph: Graph) -> Mapping[str, Shape]:
    """The shape of each value of which at least the rank is known."""
    known = dict(graph.shapes)
    for node in graph.nodes:
        _note_inputs(known, node)
        if node.kind is K.SPLIT:
            _note_parts(known, node)
        elif node.kind in _RULES and node.outputs:
            _note(known, node.outputs[0], _RULES[node.kind](node, known))
    return known


def _note_parts(known: dict[str, Shape], node: Node) -> None:
    """The parts of a SPLIT keep all sizes but those along its axis."""
    data, axis = _same(node, known), integer(node, "axis")
    cut = {axis} if axis is not None else {*(integers(node, "axes") or ())}
    if not data or not cut or "index" in node.attributes or not flag(node, "keepdim", True):
        return
    places = {each % len(data) for each in cut}
    rest = tuple(None if at in places else size for at, size in enumerate(data))
    sizes = integers(node, "sizes") or (None,) * len(node.outputs)
    for output, size in zip(node.outputs, sizes, strict=False):
        _note(known, output, tuple(size if at in places else s for at, s in enumerate(rest)))


def _note(known: dict[str, Shape], value: str, shape: Shape | None) -> None:
    """Add what is new of a shape; what the file says stays."""
    before = known.get(value)
    if shape is None or not value or (before is not None and len(before) != len(shape)):
        return
    if before is not None:
        shape = tuple(b if a is None else a for a, b in zip(before, shape, strict=True))
    known[value] = shape


def _note_inputs(known: dict[str, Shape], node: Node) -> None:
    """What an operator's parameters say of the data that it reads."""
    weight, data = node.parameters.get("weight"), next(iter(node.inputs), "")
    if not isinstance(weight, Tensor) or not data:
        return
    if node.kind in (K.CONV, K.CONV_TRANSPOSE) and len(weight.shape) > 2:
        channels = weight.shape[0] if node.kind is K.CONV_TRANSPOSE else _taken(node, weight)
        _note(known, data, (None, channels, *[None] * (len(weight.shape) - 2)))
    elif node.kind is K.LINEAR and data in known and len(weight.shape) == 2 and known[data]:
        _note(known, data, (*known[data][:-1], weight.shape[flag(node, "transB")]))
    elif node.kind is K.BATCH_NORM and len(known.get(data, ())) > 1:
        _note(known, data, (None, weight.numel, *[None] * (len(known[data]) - 2)))


def _taken(node: Node, weight: Tensor) -> int | None:
    groups = integer(node, "groups")
    return weight.shape[1] * groups if groups else None


Rule = Callable[[Node, Mapping[str, Shape]], Shape | None]


def _same(node: Node, known: Mapping[str, Shape]) -> Shape | None:
    return known.get(next(iter(node.inputs), ""))


def _convolved(node: Node, known: Mapping[str, Shape]) -> Shape | None:
    weight, data = node.parameters.get("weight"), _same(node, known)
    if not isinstance(weight, Tensor) or len(weight.shape) < 3:
        return None
    channels: int | None = weight.shape[0]
    if node.kind is K.CONV_TRANSPOSE:
        channels = _taken(node, weight)
    batch = data[0] if data else None
    return (batch, channels, *[None] * (len(weight.shape) - 2))


def _multiplied(node: Node, known: Mapping[str, Shape]) -> Shape | None:
    weight, data = node.parameters.get("weight"), _same(node, known)
    if not isinstance(weight, Tensor) or len(weight.shape) != 2 or not data:
        return None
    return (*data[:-1], weight.shape[not flag(node, "transB")])


def _broadcast(node: Node, known: Mapping[str, Shape]) -> Shape | None:
    constants = node.parameters.values()
    operands = [known.get(value) for value in node.inputs if value]
    operands += [held.shape if isinstance(held, Tensor) else None for held in constants]
    if None in operands or not operands:
        return None
    given = [shape for shape in operands if shape is not None]
    rank = max(map(len, given))
    filled = [(1,) * (rank - len(shape)) + shape for shape in given]
    return tuple(map(_widest, zip(*filled, strict=True)))


def _widest(sizes: Iterable[int | None]) -> int | None:
    wide = {size for size in sizes if size != 1}
    return 1 if not wide else wide.pop() if len(wide) == 1 else None


def _pooled(node: Node, known: Mapping[str, Shape]) -> Shape | None:
    data = _same(node, known)
    if not data:
        return None
    kept = data[:2]
    axes, gone = integers(node, "axes"), node.attributes.get("keepdim") is False
    if axes is not None:
        reduced = {axis % len(data) for axis in axes}
        one: Shape = () if gone else (1,)
        sizes = (one if at in reduced else (size,) for at, size in enumerate(data))
        return tuple(size for each in sizes for size in each)
    if node.attributes.get("output_size") == 1:
        return kept if gone else (*kept, *[1] * (len(data) - 2))
    return (*kept, *[None] * (len(data) - 2))


def _resized(node: Node, known: Mapping[str, Shape]) -> Shape | None:
    data = _same(node, known)
    return (*data[:2], *[None] * (len(data) - 2)) if data else None


def _padded(node: Node, known: Mapping[str, Shape]) -> Shape | None:
    data = _same(node, known)
    if not data:
        return None
    padded = padded_axes(node, len(data))
    return tuple(None if axis in padded else size for axis, size in enumerate(data))


def padded_axes(node: Node, rank: int) -> frozenset[int]:
    """The axes that a PAD makes longer; all where it does not tell."""
    sides = integers(node, "padding")
    if sides is None:
        return frozenset(range(rank))
    half = len(sides) // 2
    axes = integers(node, "axes") or tuple(range(half))
    each = zip(axes, sides[:half], sides[half:], strict=False)
    return frozenset(axis % rank for axis, before, after in each if before or after)


def _joined(node: Node, known: Mapping[str, Shape]) -> Shape | None:
    parts = [known.get(value, ()) for value in node.inputs]
    axis, rank = integer(node, "axis"), len(parts[0]) if parts else 0
    if axis is None or not rank or any(len(part) != rank for part in parts):
        return None
    sizes = [part[axis % rank] for part in parts]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    return (*parts[0][: axis % rank], total, *parts[0][axis % rank :][1:])


def _reshaped(node: Node, known: Mapping[str, Shape]) -> Shape | None:
    data, asked = _same(node, known), node.attributes.get("shape")
    if isinstance(asked, tuple):
        return _asked_for(asked, data)
    if data is None:
        return None
    order = permutation(node, len(data))
    if order is not None:
        return tuple(data[axis] for axis in order)
    return _with_axes_changed(node, data)


def permutation(node: Node, rank: int) -> tuple[int, ...] | None:
    """Which axis of the data becomes each axis, where a RESHAPE only transposes."""
    order, one, other = integers(node, "perm"), integer(node, "dim0"), integer(node, "dim1")
    if order is not None:
        return order if len(order) == rank else None
    if one is None or other is None:
        return None
    axes = [*range(rank)]
    axes[one % rank], axes[other % rank] = axes[other % rank], axes[one % rank]
    return tuple(axes)


def _asked_for(shape: tuple[int | None, ...], data: Shape | None) -> Shape:
    before = dict(enumerate(data or ()))
    sizes = (before.get(axis) if size == 0 else size for axis, size in enumerate(shape))
    return tuple(None if size is None or size < 0 else size for size in sizes)


def _with_axes_changed(node: Node, data: Shape) -> Shape | None:
    rank = len(data)
    gone, added = integers(node, "squeeze"), integers(node, "unsqueeze")
    if gone is not None:
        places = {axis % rank for axis in gone}
        return tuple(size for axis, size in enumerate(data) if axis not in places)
    if added is not None:
        total, rest = rank + len(added), iter(data)
        places = {axis % total for axis in added}
        return tuple(1 if axis in places else next(rest) for axis in range(total))
    first = integer(node, "start_dim")
    if first is not None:
        first %= rank
        last = (integer(node, "end_dim") if "end_dim" in node.attributes else -1) or 0
        last %= rank
        return (*data[:first], _product(data[first : last + 1]), *data[last + 1 :])
    return _shuffled(node, data)


def _shuffled(node: Node, data: Shape) -> Shape | None:
    if "groups" in node.attributes:
        return data
    up, down = integer(node, "upscale_factor"), integer(node, "downscale_factor")
    factor = up or down
    if factor is None or len(data) < 3:
        return None
    channels, block = data[1], factor ** (len(data) - 2)
    if channels is not None:
        channels = channels // block if up else channels * block
    return (data[0], channels, *[None] * (len(data) - 2))


def _product(sizes: Iterable[int | None]) -> int | None:
    total = 1
    for size in sizes:
        if size is None:
            return None
        total *= size
    return total


_RULES: Mapping[NodeKind, Rule] = {
    **dict.fromkeys(SAME, _same),
    K.CONV: _convolved,
    K.CONV_TRANSPOSE: _convolved,
    K.LINEAR: _multiplied,
    K.ADD: _broadcast,
    K.MUL: _broadcast,
    K.MAX_POOL: _pooled,
    K.AVERAGE_POOL: _pooled,
    K.RESIZE: _resized,
    K.PAD: _padded,
    K.CONCAT: _joined,
    K.RESHAPE: _reshaped,
}
