"""A per-channel map on a value: which channel of which node acts where along which axes.

Reshaping, transposing, slicing and joining move channels about. A map therefore says for every
position along its axes which channel of its node acts there; arithmetic comes later, once.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from bncheck.folding.affine import Affine
from bncheck.folding.reasons import Blocked, Reason

UNTOUCHED = -1  # a position at which nothing is scaled or shifted
MOST_POSITIONS = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One node's share in a map: the channel that acts at each position, in row-major order."""

    affine: Affine
    index: Sequence[int]

    def scale(self) -> Iterator[float]:
        """The factor at each position."""
        factors = self.affine.scale
        return (1.0 if i == UNTOUCHED else factors[i] for i in self.index)

    def shift(self) -> Iterator[float]:
        """The summand at each position."""
        terms = self.affine.shift
        return (0.0 if i == UNTOUCHED else terms[i] for i in self.index)


@dataclass(frozen=True, slots=True)
class ChannelMap:
    """x -> scale * x + shift along some axes of a value, the first of ``parts`` first.

    ``shifts`` is False for the scale alone. A negative axis counts from the last.
    """

    parts: tuple[Part, ...]
    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    shifts: bool = True

    @property
    def has_shift(self) -> bool:
        """Whether anything but a scale is left."""
        return self.shifts and any(part.affine.has_shift for part in self.parts)

    @property
    def is_positive(self) -> bool:
        """Whether every factor is above zero."""
        return all(part.affine.is_positive for part in self.parts)

    def scale_only(self) -> ChannelMap:
        """Without the shift."""
        return replace(self, shifts=False)

    def after(self, affine: Affine) -> ChannelMap:
        """The map that has this node's before it; the node acts along the one axis of the map."""
        (size,) = self.sizes
        index: Sequence[int] = range(size) if affine.size == size else (0,) * size
        return replace(self, parts=(Part(affine, index), *self.parts))

    def then(self, other: ChannelMap) -> ChannelMap:
        """This map and another on the same channels after it; raises Blocked for others."""
        if (self.axes, self.sizes) != (other.axes, other.sizes) or not (
            self.shifts and other.shifts
        ):
            raise Blocked(Reason.CHANNELS)
        return replace(self, parts=(*self.parts, *other.parts))

    def at(self, axis: int) -> ChannelMap:
        """The same along another axis; a map of several axes raises Blocked."""
        if len(self.axes) != 1:
            raise Blocked(Reason.CHANNELS)
        return replace(self, axes=(axis,))

    def scale(self) -> array[float]:
        """All factors, float64, in row-major order of ``sizes``."""
        total = array("d", [1.0]) * math.prod(self.sizes)
        for part in self.parts:
            total = array("d", (a * b for a, b in zip(part.scale(), total, strict=True)))
        return total

    def shift(self) -> array[float]:
        """All summands, float64, in row-major order of ``sizes``."""
        total = array("d", bytes(8 * math.prod(self.sizes)))
        for part in self.parts if self.shifts else ():
            terms = zip(part.scale(), total, part.shift(), strict=True)
            total = array("d", (s * t + u for s, t, u in terms))
        return total

    def taken(self, axis: int, places: Sequence[int]) -> ChannelMap:
        """The map where only some places along one of its axes are left, or come again."""
        return self._along(axis, places)

    def placed(self, axis: int, places: Sequence[int], size: int) -> ChannelMap:
        """The map on a longer axis, whose other places stay untouched."""
        back = {place: i for i, place in enumerate(places)}
        return self._along(axis, [back.get(place, UNTOUCHED) for place in range(size)])

    def _along(self, axis: int, places: Sequence[int]) -> ChannelMap:
        at = self.axes.index(axis)
        sizes = (*self.sizes[:at], len(places), *self.sizes[at + 1 :])
        inner = math.prod(self.sizes[at + 1 :])
        outer, length = math.prod(self.sizes[:at]), self.sizes[at]
        _limit(sizes)
        positions = [
            UNTOUCHED if place == UNTOUCHED else (o * length + place) * inner + i
            for o in range(outer)
            for place in places
            for i in range(inner)
        ]
        return self._picked(positions, self.axes, sizes)

    def _picked(
        self, positions: Sequence[int], axes: tuple[int, ...], sizes: tuple[int, ...]
    ) -> ChannelMap:
        parts = tuple(
            Part(p.affine, [UNTOUCHED if at == UNTOUCHED else p.index[at] for at in positions])
            for p in self.parts
        )
        return replace(self, parts=parts, axes=axes, sizes=sizes)

    def spread(self, axes: tuple[int, ...], sizes: tuple[int, ...]) -> ChannelMap:
        """Along more axes, or the same in another order: constant along those that are new."""
        _limit(sizes)
        strides = dict(zip(self.axes, _strides(self.sizes), strict=True))
        steps = [strides.get(axis, 0) for axis in axes]
        positions = [
            sum(step * at for step, at in zip(steps, place, strict=True))
            for place in product(*map(range, sizes))
        ]
        return self._picked(positions, axes, sizes)

    def relabelled(self, axes: tuple[int, ...], sizes: tuple[int, ...]) -> ChannelMap:
        """The same positions in row-major order along other axes, as a reshape has it."""
        return replace(self, axes=axes, sizes=sizes)

    def narrowed(self) -> ChannelMap:
        """Without the axes along which nothing varies."""
        found = self
        for axis in self.axes if len(self.axes) > 1 else ():
            if len(found.axes) > 1:
                found = found._without(axis)
        return found

    def _without(self, axis: int) -> ChannelMap:
        at = self.axes.index(axis)
        first = self.taken(axis, [0])
        if self.sizes[at] > 1:
            again = first.taken(axis, [0] * self.sizes[at])
            same = zip(again.parts, self.parts, strict=True)
            if any([*mine.index] != [*theirs.index] for mine, theirs in same):
                return self
        axes = (*self.axes[:at], *self.axes[at + 1 :])
        return first.relabelled(axes, (*self.sizes[:at], *self.sizes[at + 1 :]))


def whole(affine: Affine, axis: int, size: int) -> ChannelMap:
    """What a node does to the data that it reads."""
    index: Sequence[int] = range(size) if affine.size == size else (0,) * size
    return ChannelMap((Part(affine, index),), (axis,), (size,))


def _strides(sizes: tuple[int, ...]) -> list[int]:
    return [math.prod(sizes[at + 1 :]) for at in range(len(sizes))]


def _limit(sizes: tuple[int, ...]) -> None:
    if math.prod(sizes) > MOST_POSITIONS:
        raise Blocked(Reason.CHANNELS)
