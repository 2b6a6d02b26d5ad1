"""Where channels go when data is reshaped, parted or joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from bncheck.graph import Node, Shape
from bncheck.moments.distribution import Array, Channels

LAST = 2**16  # where the rank is not known: more axes than there are


def reshaped(node: Node, x: Channels, before: Shape) -> Channels | None:
    """The channels after a RESHAPE; None where they no longer lie along axes of their own."""
    for name, change in _CHANGES.items():
        axes = _integers(node, name)
        if axes is not None:
            return change(x, axes)
    shape = node.attributes.get("shape")
    match node.attributes:
        case {"start_dim": int(first), "end_dim": int(last)}:
            return _flattened(x, first, (len(before) or LAST) + last if last < 0 else last)
        case {"groups": int(groups)}:
            return _shuffled(x, groups)
    return _to_shape(x, before, shape) if isinstance(shape, tuple) else None


def _integers(node: Node, name: str) -> tuple[int, ...] | None:
    held = node.attributes.get(name)
    plain = isinstance(held, tuple) and all(type(each) is int for each in held)
    return held if plain and isinstance(held, tuple) else None


def _moved(x: Channels, places: int) -> Channels:
    return replace(x, axis=x.axis + places, base=object())


def _permuted(x: Channels, order: Sequence[int]) -> Channels | None:
    """Channels may change places among each other; nothing may come between their axes."""
    places = [place for place, axis in enumerate(order) if axis in x.axes]
    if len(places) != x.mean.ndim or places[-1] - places[0] != len(places) - 1:
        return None
    inner = [order[place] - x.axis for place in places]
    if sorted(inner) != [*range(len(inner))]:
        return None
    return x.arranged(
        lambda each: np.transpose(each, [*inner, *range(len(inner), each.ndim)]), axis=places[0]
    )


def _squeezed(x: Channels, axes: Sequence[int]) -> Channels | None:
    if set(axes) & set(x.axes) or min(axes, default=0) < 0:
        return None
    return _moved(x, -sum(axis < x.axis for axis in axes))


def _unsqueezed(x: Channels, axes: Sequence[int]) -> Channels | None:
    """``axes`` are those of the result."""
    begin = x.axis
    for axis in sorted(axes):
        begin += axis <= begin
    inside = any(axis < 0 or begin < axis < begin + x.mean.ndim for axis in axes)
    return None if inside else replace(x, axis=begin, base=object())


def _flattened(x: Channels, first: int, last: int) -> Channels | None:
    """``last`` included. What follows channels is flattened with them: they are spread."""
    begin, end = x.axes.start, x.axes.stop - 1
    if last < begin:
        return _moved(x, first - last)
    if first > end:
        return x
    if first != begin or last < end:
        return None
    return x.arranged(lambda each: _joined(each, x.mean.ndim, (-1,)), spread=last > end)


def _joined(each: Array, axes: int, sizes: tuple[int, ...]) -> Array:
    """The first axes in another shape."""
    return each.reshape(*sizes, *each.shape[axes:])


def _shuffled(x: Channels, groups: int) -> Channels | None:
    """channel_shuffle: (groups, n) becomes (n, groups)."""
    if x.mean.ndim != 1 or groups < 1 or len(x.mean) % groups:
        return None
    order = np.arange(len(x.mean)).reshape(groups, -1).T.ravel()
    return x.arranged(lambda each: each[order])


def _to_shape(x: Channels, before: Shape, shape: Shape) -> Channels | None:
    """Channels keep axes of their own where what is before them, or what is behind, stays so."""
    begin, behind = x.axis, before[x.axes.stop :]
    end = _run(shape, begin, x.mean.size)
    if end and all(map(_stays, before, shape[:begin])) and _may_equal(behind, shape[end:]):
        return _in_shape(x, begin, shape[begin:end])
    if None in behind:
        return None
    backwards = shape[::-1]
    skipped = _run(backwards, 0, prod(size or 1 for size in behind))
    length = None if skipped is None else _run(backwards, skipped, x.mean.size)
    if skipped is None or length is None:
        return None
    begin, end = len(shape) - length, len(shape) - skipped
    return _in_shape(x, begin, shape[begin:end])


def _stays(before: int | None, asked: int | None) -> bool:
    return asked == 0 or (asked == before if before is not None else asked in (-1, None))


def _may_equal(behind: Shape, after: Shape) -> bool:
    """Whether the axes after the channels may hold as many values as before."""
    sizes = [*behind, *after]
    return any(s is None or s < 1 for s in sizes) or prod(behind) == prod(after)  # type: ignore


def _run(sizes: Shape, begin: int, total: int) -> int | None:
    """Where the axes from ``begin`` on end that hold ``total`` values together."""
    product, end = 1, begin
    while product < total and end < len(sizes) and (sizes[end] or 0) > 0:
        product *= sizes[end] or 1
        end += 1
    return end if product == total else None


def _in_shape(x: Channels, begin: int, sizes: Shape) -> Channels:
    while sizes[:1] == (1,):
        begin, sizes = begin + 1, sizes[1:]
    known = tuple(size or 1 for size in sizes)
    return x.arranged(lambda each: _joined(each, x.mean.ndim, known), axis=begin)


def parted(node: Node, x: Channels, place: int) -> Channels | None:
    """One output of a SPLIT, the first, second, ..."""
    axis, index = node.attributes.get("axis"), node.attributes.get("index")
    sizes, indices = _integers(node, "sizes"), _integers(node, "indices")
    if not isinstance(axis, int):
        return _section(node, x)
    if node.attributes.get("keepdim") is False:
        return _without_axis(x, axis, place)
    if sizes is not None and place < len(sizes):
        return _taken(x, axis, range(sum(sizes[:place]), sum(sizes[: place + 1])))
    if isinstance(index, int):
        return _without_axis(x, axis, index)
    return None if indices is None else _taken(x, axis, indices)


def _section(node: Node, x: Channels) -> Channels | None:
    names = ("axes", "starts", "ends", "steps")
    axes, starts, ends, steps = (_integers(node, name) for name in names)
    if axes is None or starts is None or ends is None:
        return None
    sections = map(slice, starts, ends, steps or (1,) * len(axes))
    taken: Channels | None = x
    for axis, section in zip(axes, sections, strict=False):
        if taken is None or axis < 0:
            return None
        if axis in x.axes:
            taken = _taken(taken, axis, range(x.mean.shape[axis - x.axis])[section])
    return taken


def _taken(x: Channels, axis: int, places: Sequence[int]) -> Channels | None:
    if axis not in x.axes:
        return replace(x, base=object()) if axis >= 0 else None
    inner, size = axis - x.axis, x.mean.shape[axis - x.axis]
    if x.spread or not all(-size <= place < size for place in places):
        return None
    return x.arranged(lambda each: each.take(list(places), axis=inner))


def _without_axis(x: Channels, axis: int, index: int) -> Channels | None:
    if axis < 0:
        return None
    if axis not in x.axes:
        return _moved(x, -(axis < x.axis))
    if x.mean.ndim == 1:
        return None
    one = _taken(x, axis, (index,))
    return one and one.arranged(lambda each: each.squeeze(axis - x.axis))


def joined(parts: Sequence[Channels], axis: object) -> Channels | None:
    """A CONCAT along the channels."""
    first = parts[0]
    if any((p.axis, p.mean.ndim, p.spread, p.border) != (axis, 1, first.spread, ()) for p in parts):
        return None
    curves = [p.curve for p in parts if p.curve is not None]
    fringed = any(p.fringe is not None for p in parts)
    fringes = [np.zeros_like(p.mean) if p.fringe is None else p.fringe for p in parts]
    return Channels(
        np.concatenate([p.mean for p in parts]),
        np.concatenate(curves) if len(curves) == len(parts) else None,
        object(),
        first.axis,
        first.spread,
        fringe=np.concatenate(fringes) if fringed else None,
    )


_CHANGES: dict[str, Callable[[Channels, Sequence[int]], Channels | None]] = {
    "perm": _permuted,
    "squeeze": _squeezed,
    "unsqueeze": _unsqueezed,
}
