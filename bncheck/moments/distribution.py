"""How much is known about the values of each channel: the mean, and where possible all of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
REACH, STEP = 6.0, 0.125  # in standard deviations; a kink costs STEP**2 / 12 of its density at most
NODES: Floats = np.arange(-REACH, REACH + STEP / 2, STEP)
DENSITY: Floats = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """What is known about the channels of a value, which lie along ``axis`` and those after it.

    ``mean`` has one axis for each of these, NaN where nothing is known. ``curve`` has one more, the
    last: each channel as a function of a standard normal variable z, at NODES; None where only the
    mean is known. Values of one ``base`` are functions of the same z.

    ``spread``: along the axis each channel stands several times in a row, as Flatten leaves it.
    ``border``: the zeros that were added around space, before each of its axes, then after each.
    ``fringe``: how much the zeros that convolutions see around space change the mean, times the
    size of space; None where they see none, or where the size is known and the mean has it all.
    ``deviation``: of a linear op's output, as if all that it adds up were independent; a rough
    number, and None where nothing needs it.
    """

    mean: Floats
    curve: Floats | None = None
    base: Hashable = None
    axis: int = 1
    spread: bool = False
    border: tuple[int, ...] = ()
    fringe: Floats | None = None
    deviation: Floats | None = None

    @property
    def axes(self) -> range:
        """The axes along which channels lie."""
        return range(self.axis, self.axis + self.mean.ndim)

    @property
    def variance(self) -> Floats | None:
        """The variance of each channel, None where only the mean is known."""
        if self.curve is None:
            return None
        return (self.curve - self.mean[..., None]) ** 2 @ DENSITY

    @property
    def held(self) -> int:
        """How many numbers these are."""
        return sum(each.size for _, each in self._arrays())

    def mean_only(self) -> Channels:
        """Without the distribution."""
        return replace(self, curve=None)

    def arranged(self, change: Callable[[Array], Array], **fields: Any) -> Channels:
        """Channels in another arrangement: ``change`` is to leave a last axis of NODES alone."""
        moved: dict[str, Any] = {name: change(each) for name, each in self._arrays()}
        return replace(self, base=object(), **moved, **fields)

    def _arrays(self) -> Iterator[tuple[str, Floats]]:
        names = ("mean", "curve", "fringe", "deviation")
        held = {name: getattr(self, name) for name in names}
        return ((name, each) for name, each in held.items() if each is not None)

    def through(self, curve: Floats) -> Channels:
        """What a function of the same z makes of these."""
        return replace(self, mean=curve @ DENSITY, curve=curve)


def normal(mean: Floats, deviation: Floats, axis: int = 1) -> Channels:
    """Normally distributed channels."""
    return Channels(mean, mean[..., None] + deviation[..., None] * NODES, object(), axis)
