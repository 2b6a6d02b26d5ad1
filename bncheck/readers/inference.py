"""The shapes that follow from the operations, where the format does not state them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping

from bncheck.graph import Node, NodeKind, Shape
from bncheck.readers.windows import conv_space, pool_space, transposed_space
from bncheck.tensor import Tensor

MOST_AXES = 32

Shapes = Mapping[str, Shape]
Rule = Callable[[Node, Shape, Shapes], Shape | None]


def note_shapes(node: Node, shapes: MutableMapping[str, Shape]) -> None:
    """Add the shapes of a node's outputs that are not stated; sizes that are unknown are None."""
    if not node.inputs or all(value in shapes for value in node.outputs):
        return
    for value, shape in zip(node.outputs, _made(node, shapes), strict=False):
        if value and shape and len(shape) <= MOST_AXES:
            shapes.setdefault(value, shape)


def _made(node: Node, shapes: Shapes) -> Iterable[Shape | None]:
    data = shape_of(node.inputs[0], shapes)
    if node.kind is NodeKind.SPLIT:
        return _parts(node, data) if data and len(node.inputs) == 1 else ()
    rule = _RULES.get(node.kind)
    return (rule(node, data, shapes),) if rule else ()


def shape_of(value: str, shapes: Shapes) -> Shape:
    """A shape, () where it is unknown or of more axes than any model has."""
    shape = shapes.get(value, ())
    return shape if len(shape) <= MOST_AXES else ()


def _numbers(node: Node, name: str) -> tuple[int, ...]:
    value = node.attributes.get(name)
    is_one = isinstance(value, tuple) and all(isinstance(each, int) for each in value)
    return value if is_one and isinstance(value, tuple) else ()


def _as_before(node: Node, data: Shape, shapes: Shapes) -> Shape | None:
    return data


def _convolution(node: Node, data: Shape, shapes: Shapes) -> Shape | None:
    weight = node.parameters.get("weight")
    if not isinstance(weight, Tensor) or len(weight.shape) < 3:
        return None
    rank = len(weight.shape)
    if data and len(data) != rank:  # without a batch
        return None
    transposed = node.kind is NodeKind.CONV_TRANSPOSE
    groups = node.attributes.get("groups")
    channels = weight.shape[0] if not transposed else None
    if transposed and isinstance(groups, int):
        channels = weight.shape[1] * groups
    space = (transposed_space if transposed else conv_space)(node, data[2:] or (None,) * (rank - 2))
    return (data[0] if data else None, channels, *space)


def _linear(node: Node, data: Shape, shapes: Shapes) -> Shape | None:
    weight = node.parameters.get("weight")
    if node.op == "Gemm":  # always of matrices
        data = data or (None, None)
    if not data or not isinstance(weight, Tensor) or len(weight.shape) != 2:
        return None
    if node.attributes.get("transA"):
        return (None, weight.shape[node.attributes.get("transB") is not True])
    return (*data[:-1], weight.shape[node.attributes.get("transB") is not True])


def _product(node: Node, data: Shape, shapes: Shapes) -> Shape | None:
    other = shape_of(node.inputs[1], shapes) if len(node.inputs) > 1 else ()
    if len(data) < 2 or len(data) != len(other) or node.attributes.get("transA"):
        return None
    columns = None if node.attributes.get("transB") else other[-1]
    return (*map(_wider, data[:-2], other[:-2]), data[-2], columns)


def _broadcast(node: Node, data: Shape, shapes: Shapes) -> Shape | None:
    if "axis" in node.attributes:
        return data
    given = [shape_of(value, shapes) for value in node.inputs]
    held = [each.shape for each in node.parameters.values() if isinstance(each, Tensor)]
    if not all(given):
        return None
    rank = max(map(len, [*given, *held]))
    result: Shape = (1,) * rank
    for shape in (*given, *held):
        result = tuple(map(_wider, result, (1,) * (rank - len(shape)) + shape))
    return result


def _wider(one: int | None, other: int | None) -> int | None:
    if one == 1:
        return other
    return one if other == 1 or one == other else None


def _pooled(node: Node, data: Shape, shapes: Shapes) -> Shape | None:
    if len(data) < 3:
        return None
    gone = node.attributes.get("keepdim") is False
    axes, size = _numbers(node, "axes"), node.attributes.get("output_size")
    if axes:
        return tuple(_reduced(data, {axis % len(data) for axis in axes}, gone))
    if size is None:
        return (*data[:2], *pool_space(node, data[2:]))
    if gone:
        return data[:2]
    sizes = _numbers(node, "output_size") or ((size,) if isinstance(size, int) else ())
    if len(sizes) == 1:
        sizes *= len(data) - 2
    return (*data[:2], *(sizes if len(sizes) == len(data) - 2 else (None,) * (len(data) - 2)))


def _reduced(data: Shape, axes: set[int], gone: bool) -> Iterator[int | None]:
    for axis, size in enumerate(data):
        if axis not in axes:
            yield size
        elif not gone:
            yield 1


def _resized(node: Node, data: Shape, shapes: Shapes) -> Shape | None:
    return (*data[:2], *(None for _ in data[2:]))


def _padded(node: Node, data: Shape, shapes: Shapes) -> Shape | None:
    axes, sides = _numbers(node, "axes"), _numbers(node, "padding")
    if not axes or len(sides) != 2 * len(axes) or not data:
        return tuple(None for _ in data)
    both = map(sum, zip(sides[: len(axes)], sides[len(axes) :], strict=True))
    added = dict(zip(axes, both, strict=True))
    places = range(-len(data), 0)
    return tuple(
        size if at not in added else None if size is None else size + added[at]
        for at, size in zip(places, data, strict=True)
    )


def _joined(node: Node, data: Shape, shapes: Shapes) -> Shape | None:
    parts, axis = [shape_of(each, shapes) for each in node.inputs], node.attributes.get("axis")
    rank = max(map(len, parts))
    if not rank or not isinstance(axis, int) or not -rank <= axis < rank:
        return None
    axis %= rank
    known = [part for part in parts if len(part) == rank]
    sizes = [part[axis] for part in known] if len(known) == len(parts) else [None]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    same = tuple(
        next((s for s in each if s is not None), None) for each in zip(*known, strict=True)
    )
    return (*same[:axis], total, *same[axis + 1 :])


def _parts(node: Node, data: Shape) -> Iterator[Shape]:
    axis, axes = node.attributes.get("axis"), _numbers(node, "axes")
    if axes:
        yield _section(node, data, axes)
    elif isinstance(axis, int) and 0 <= axis < len(data):
        before, after = data[:axis], data[axis + 1 :]
        loses = "index" in node.attributes or node.attributes.get("keepdim") is False
        lengths = _numbers(node, "sizes") or (None,) * len(node.outputs)
        if "indices" in node.attributes:
            lengths = (len(_numbers(node, "indices")),)
        for length in lengths:
            yield (*before, *after) if loses else (*before, length, *after)


def _section(node: Node, data: Shape, axes: tuple[int, ...]) -> Shape:
    starts, ends, steps = (_numbers(node, name) for name in ("starts", "ends", "steps"))
    sizes = [*data]
    for place, axis in enumerate(axes):
        if 0 <= axis < len(data):
            sizes[axis] = None
            known = data[axis] is not None and len(starts) == len(ends) == len(steps) == len(axes)
            if known and steps[place] > 0:  # then the bounds are within the data
                sizes[axis] = max(-(-(ends[place] - starts[place]) // steps[place]), 0)
    return tuple(sizes)


def _reshaped(node: Node, data: Shape, shapes: Shapes) -> Shape | None:
    asked, perm = node.attributes.get("shape"), _numbers(node, "perm")
    if isinstance(asked, tuple):
        return _asked_for(asked, data)
    if perm:
        fits = sorted(perm) == [*range(len(data))]
        return tuple(data[axis] for axis in perm) if fits else (None,) * len(perm)
    if not data:
        flat = node.attributes.get("start_dim") == 1 and node.attributes.get("end_dim") == -1
        return (None, None) if flat else None
    return _changed(node, data)


def _asked_for(asked: tuple[int | None, ...], data: Shape) -> Shape:
    """Zeros are the sizes before; one rest is what is left."""
    sizes = [data[at] if size == 0 and at < len(data) else size for at, size in enumerate(asked)]
    if sizes.count(-1) == 1 and None not in sizes and data and None not in data:
        given = math.prod(size for size in sizes if size is not None and size != -1)
        total = math.prod(size for size in data if size is not None)
        sizes[sizes.index(-1)] = total // given if given else None
    return tuple(None if size is None or size < 0 else size for size in sizes)


def _changed(node: Node, data: Shape) -> Shape | None:
    gone, come = _numbers(node, "squeeze"), _numbers(node, "unsqueeze")
    if gone:
        return tuple(size for axis, size in enumerate(data) if axis not in gone)
    if come:
        places = [at for at in range(len(data) + len(come)) if at not in come]
        sizes = dict(zip(places, data, strict=False))
        return tuple(sizes.get(at, 1) for at in range(len(data) + len(come)))
    match node.attributes:
        case {"start_dim": int(first), "end_dim": int(last)} if 0 <= first <= last < len(data):
            flat = data[first : last + 1]
            size = None if None in flat else math.prod(size for size in flat if size is not None)
            return (*data[:first], size, *data[last + 1 :])
        case {"groups": _}:
            return data
        case {"upscale_factor": _} | {"downscale_factor": _}:
            return (*data[:-3], None, None, None)
    return None


_KEEP = (
    "BATCH_NORM INSTANCE_NORM GROUP_NORM LAYER_NORM RMS_NORM LOCAL_RESPONSE_NORM RELU ACTIVATION "
    "DROPOUT IDENTITY QUANTIZE"
)
_RULES: Mapping[NodeKind, Rule] = {
    **{NodeKind[name]: _as_before for name in _KEEP.split()},
    NodeKind.CONV: _convolution,
    NodeKind.CONV_TRANSPOSE: _convolution,
    NodeKind.LINEAR: _linear,
    NodeKind.MATMUL: _product,
    NodeKind.ADD: _broadcast,
    NodeKind.MUL: _broadcast,
    NodeKind.MAX_POOL: _pooled,
    NodeKind.AVERAGE_POOL: _pooled,
    NodeKind.RESIZE: _resized,
    NodeKind.PAD: _padded,
    NodeKind.CONCAT: _joined,
    NodeKind.RESHAPE: _reshaped,
}
