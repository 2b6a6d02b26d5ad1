"""How a per-channel map goes through a reshape: axes are parted into groups of equal size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bncheck.folding.channels import ChannelMap
from bncheck.folding.reasons import Blocked, Reason
from bncheck.graph import Shape


@dataclass(frozen=True, slots=True)
class Group:
    """Axes of one shape that hold the same elements, in the same order, as axes of another."""

    here: tuple[int, ...]
    there: tuple[int, ...]
    sizes_here: tuple[int, ...]
    sizes_there: tuple[int, ...]


def reshaped(m: ChannelMap, here: Shape, there: Shape, first_is_kept: bool = False) -> ChannelMap:
    """The map on the reshaped value. Raises Blocked where its axes cannot be followed."""
    if m.axes == () or any(axis < 0 for axis in m.axes):
        raise Blocked(Reason.CHANNELS)
    groups = _groups(_filled(here, m), there, first_is_kept)
    touched = [group for group in groups if set(group.here) & set(m.axes)]
    if set(m.axes) - {axis for group in touched for axis in group.here}:
        raise Blocked(Reason.CHANNELS)
    axes = tuple(axis for group in touched for axis in group.here)
    sizes = tuple(size for group in touched for size in group.sizes_here)
    if axes != m.axes or sizes != m.sizes:
        m = m.spread(axes, sizes)
    m = m.relabelled(
        tuple(axis for group in touched for axis in group.there),
        tuple(size for group in touched for size in group.sizes_there),
    ).narrowed()
    if any(axis < 0 for axis in m.axes):  # what several unknown axes hold together
        raise Blocked(Reason.CHANNELS)
    return m


def _filled(shape: Shape, m: ChannelMap) -> Shape:
    sizes = dict(zip(m.axes, m.sizes, strict=True))
    return tuple(sizes.get(axis, size) for axis, size in enumerate(shape))


def _groups(here: Shape, there: Shape, first_is_kept: bool) -> list[Group]:
    """Groups from the last axis on and, where sizes are unknown there, from the first on."""
    last, h, t = _from_the_end(here, there)
    if not h and not t:
        return last
    first: list[Group] = []
    begin = 0
    if first_is_kept and h and t:
        begin = 1
    while begin < min(h, t) and here[begin] is not None and here[begin] == there[begin]:
        first.append(_group(here, there, range(begin, begin + 1), range(begin, begin + 1)))
        begin += 1
    return [*first, *_middle(here, there, begin, h, t), *last]


def _from_the_end(here: Shape, there: Shape) -> tuple[list[Group], int, int]:
    """Complete groups, and how many axes of each shape are left before them."""
    groups: list[Group] = []
    h, t = len(here), len(there)
    while h and t:
        begin_h, begin_t = h - 1, t - 1
        size_h, size_t = here[begin_h], there[begin_t]
        while size_h is not None and size_t is not None and size_h != size_t:
            if size_h < size_t and begin_h:
                begin_h -= 1
                size_h = _times(size_h, here[begin_h])
            elif size_t < size_h and begin_t:
                begin_t -= 1
                size_t = _times(size_t, there[begin_t])
            else:
                return groups, h, t
        if size_h is None or size_t is None:
            break
        groups.insert(0, _group(here, there, range(begin_h, h), range(begin_t, t)))
        h, t = begin_h, begin_t
    return groups, h, t


def _times(size: int, other: int | None) -> int | None:
    return None if other is None else size * other


def _group(here: Shape, there: Shape, h: range, t: range) -> Group:
    return Group(tuple(h), tuple(t), _known(here, h), _known(there, t))


def _known(shape: Shape, axes: range) -> tuple[int, ...]:
    return tuple(size for axis in axes if (size := shape[axis]) is not None)


def _middle(here: Shape, there: Shape, begin: int, h: int, t: int) -> list[Group]:
    """One group of all that is left, where only one side has unknown sizes, and those last.

    They become one axis, under a negative number, of what the other side leaves for them.
    """
    left, right = _with_a_rest(here, begin, h), _with_a_rest(there, begin, t)
    if left is None or right is None or (-1 in left[1] and -1 in right[1]):
        return []
    total = math.prod(right[1] if -1 in left[1] else left[1])
    sides = [_completed(axes, sizes, total) for axes, sizes in (left, right)]
    (axes_h, sizes_h), (axes_t, sizes_t) = sides
    if not axes_h or not axes_t or math.prod(sizes_h) != math.prod(sizes_t):
        return []
    return [Group(axes_h, axes_t, sizes_h, sizes_t)]


Side = tuple[tuple[int, ...], tuple[int, ...]]


def _with_a_rest(shape: Shape, begin: int, end: int) -> Side | None:
    """Axes and sizes; a trailing run of unknown sizes is one axis of size -1."""
    known = end
    while known > begin and shape[known - 1] is None:
        known -= 1
    sizes = tuple(size for size in shape[begin:known] if size is not None)
    if len(sizes) < known - begin:
        return None
    axes = tuple(range(begin, known))
    if known == end:
        return axes, sizes
    rest = known if known == end - 1 else -end
    return (*axes, rest), (*sizes, -1)


def _completed(axes: tuple[int, ...], sizes: tuple[int, ...], total: int) -> Side:
    if not sizes or sizes[-1] != -1:
        return axes, sizes
    known = math.prod(sizes[:-1])
    return (axes, (*sizes[:-1], total // known)) if known and total % known == 0 else ((), ())
