"""What readers of every format do to a node, once the shapes before it are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bncheck.graph import Node, NodeKind, Shape
from bncheck.readers.inference import shape_of

Attributes = dict[str, object]
Numbers = tuple[int, ...]
Rule = Callable[[Attributes, Shape], Attributes]
INT32_MAX = 2**31 - 1  # from there on, an end is "the end" whatever the data is
MOST_PARTS = 128


def settled(node: Node, shapes: Mapping[str, Shape]) -> Node:
    """A node whose attributes say as much as the shapes of its first input and output allow.

    What turns out to change nothing is an IDENTITY.
    """
    rule = _RULES.get(node.kind)
    if rule is None or not node.attributes or not node.inputs or not node.outputs:
        return node
    attributes = rule(dict(node.attributes), shape_of(node.inputs[0], shapes))
    if node.kind is NodeKind.RESHAPE:
        _fill_in_shape(attributes, shape_of(node.outputs[0], shapes))
    if _changes_nothing(node.kind, attributes):
        return replace(node, kind=NodeKind.IDENTITY, attributes={})
    return node if attributes == node.attributes else replace(node, attributes=attributes)


def same_padding(size: Numbers, dilation: Numbers) -> Numbers:
    """What "same" means for strides of 1: the output as large as the input, the odd one behind."""
    totals = [d * (k - 1) for k, d in zip(size, dilation, strict=False)]
    before = tuple(total // 2 for total in totals)
    after = tuple(total - total // 2 for total in totals)
    return before if before == after else (*before, *after)


def _numbers(value: object) -> Numbers:
    """A tuple of integers, else an empty one."""
    is_one = isinstance(value, tuple) and all(isinstance(each, int) for each in value)
    return value if is_one and isinstance(value, tuple) else ()


def _from_front(position: int, size: int) -> int:
    return position + size if -size <= position < 0 else position


def _settle_axes(attributes: Attributes, name: str, rank: int) -> None:
    """Axes, or one axis, counted from the front."""
    held = attributes.get(name)
    if isinstance(held, int):
        attributes[name] = _from_front(held, rank)
    elif held is not None:
        attributes[name] = tuple(_from_front(axis, rank) for axis in _numbers(held))


def _size(shape: Shape, axis: object) -> int | None:
    return shape[axis] if isinstance(axis, int) and 0 <= axis < len(shape) else None


def _axis(attributes: Attributes, shape: Shape) -> Attributes:
    if shape:
        _settle_axes(attributes, "axis", len(shape))
    return attributes


def _split(attributes: Attributes, shape: Shape) -> Attributes:
    if not shape:
        return attributes
    _settle_axes(attributes, "axis", len(shape))
    _settle_axes(attributes, "axes", len(shape))
    if "starts" in attributes:
        return _section(attributes, shape)
    size = _size(shape, attributes.get("axis"))
    if size is None:
        return attributes
    _settle_axes(attributes, "index", size)
    _settle_axes(attributes, "indices", size)
    return _parts(attributes, size)


def _parts(attributes: Attributes, size: int) -> Attributes:
    """How long the parts are, where only their number or their usual length is given."""
    chunks, length = attributes.get("chunks"), attributes.get("split_size")
    if isinstance(chunks, int) and chunks > 0:
        length = -(-size // chunks)
    elif attributes.get("keepdim") is False:
        length = 1
    if not isinstance(length, int) or length < 1 or size > length * MOST_PARTS:
        return attributes
    whole, rest = divmod(size, length)
    kept = {n: held for n, held in attributes.items() if n not in ("chunks", "split_size")}
    return {**kept, "sizes": (length,) * whole + ((rest,) if rest else ())}


def _section(attributes: Attributes, shape: Shape) -> Attributes:
    """Begin and end within the data, where its size is known and it is read forwards."""
    if _is_endless(attributes):
        return attributes
    sizes = [_size(shape, axis) for axis in _numbers(attributes.get("axes"))]
    steps = _numbers(attributes.get("steps"))
    for name in ("starts", "ends"):
        bounds = _numbers(attributes.get(name))
        if len(bounds) == len(sizes) == len(steps):
            attributes[name] = tuple(map(_within, bounds, sizes, steps))
    return attributes


def _is_endless(attributes: Attributes) -> bool:
    """Whether a section is all of the data, whatever the size of that."""
    starts, ends, steps = (_numbers(attributes.get(n)) for n in ("starts", "ends", "steps"))
    return bool(ends) and min(ends) >= INT32_MAX and set(starts) == {0} and set(steps) == {1}


def _within(bound: int, size: int | None, step: int) -> int:
    if size is None or step < 1:
        return bound
    return min(max(bound + size if bound < 0 else bound, 0), size)


def _reshape(attributes: Attributes, shape: Shape) -> Attributes:
    rank = len(shape)
    if not rank:
        return attributes
    if "dim0" in attributes:
        return _swapped(attributes, rank)
    if attributes.get("squeeze", ()) is None and None not in shape:
        attributes["squeeze"] = tuple(axis for axis, size in enumerate(shape) if size == 1)
    _settle_axes(attributes, "unsqueeze", rank + len(_numbers(attributes.get("unsqueeze"))))
    for name in ("perm", "squeeze", "start_dim", "end_dim", "axis"):
        _settle_axes(attributes, name, rank)
    return attributes


def _swapped(attributes: Attributes, rank: int) -> Attributes:
    order = [*range(rank)]
    _settle_axes(attributes, "dim0", rank)
    _settle_axes(attributes, "dim1", rank)
    match attributes:
        case {"dim0": int(first), "dim1": int(second)} if max(first, second) < rank:
            order[first], order[second] = order[second], order[first]
            return {"perm": tuple(order)}
    return attributes


def _fill_in_shape(attributes: Attributes, made: Shape) -> None:
    """Sizes that are computed, where the format says what comes out."""
    asked = attributes.get("shape")
    if isinstance(asked, tuple) and len(asked) == len(made) and None in asked:
        pairs = zip(asked, made, strict=True)
        attributes["shape"] = tuple(known if size is None else size for size, known in pairs)


def _average_pool(attributes: Attributes, shape: Shape) -> Attributes:
    """A mean over all of space is a global pooling, which may drop the axes."""
    if not shape or "axes" not in attributes:
        return attributes
    _settle_axes(attributes, "axes", len(shape))
    if sorted(_numbers(attributes["axes"])) != [*range(2, len(shape))]:
        return attributes
    whole: Attributes = {"output_size": 1}
    return whole if attributes.get("keepdim") else {**whole, "keepdim": False}


def _pad(attributes: Attributes, shape: Shape) -> Attributes:
    """Axes counted from the end, and of them those that are padded."""
    sides = _numbers(attributes.get("padding"))
    half = len(sides) // 2
    axes = _numbers(attributes.get("axes")) or tuple(range(-half, 0))
    if not sides or len(axes) != half or (max(axes) >= 0 and not shape):
        return attributes
    negative = (axis - len(shape) if axis >= 0 else axis for axis in axes)
    every = zip(negative, sides[:half], sides[half:], strict=True)
    padded = sorted(each for each in every if each[1:] != (0, 0))
    return {
        **attributes,
        "axes": tuple(axis for axis, _, _ in padded),
        "padding": (*(before for _, before, _ in padded), *(after for _, _, after in padded)),
    }


def _layer_norm(attributes: Attributes, shape: Shape) -> Attributes:
    axis = attributes.get("axis")
    if isinstance(axis, int) and 0 <= axis < len(shape):
        attributes["axis"] = axis - len(shape)
    return attributes


def _changes_nothing(kind: NodeKind, attributes: Attributes) -> bool:
    if kind is NodeKind.PAD:
        return attributes.get("padding") == ()
    if kind is NodeKind.RESHAPE:
        perm = _numbers(attributes.get("perm"))
        return attributes.get("squeeze") == () or (bool(perm) and perm == tuple(range(len(perm))))
    return kind is NodeKind.SPLIT and _is_endless(attributes)


_RULES: Mapping[NodeKind, Rule] = {
    NodeKind.CONCAT: _axis,
    NodeKind.QUANTIZE: _axis,
    NodeKind.SPLIT: _split,
    NodeKind.RESHAPE: _reshape,
    NodeKind.AVERAGE_POOL: _average_pool,
    NodeKind.PAD: _pad,
    NodeKind.LAYER_NORM: _layer_norm,
    NodeKind.RMS_NORM: _layer_norm,
}
