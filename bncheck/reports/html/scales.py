"""Axes of a chart: where a value is drawn, and which round numbers are written below."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

WIDTH = 240  # of a chart, in its own units
GUTTER = 28  # on each side, for what has no place on the axis
MOST_TICKS = 7
LEAST, LARGEST = 1e-290, 1e290  # what is beyond is drawn at the end
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Tick(NamedTuple):
    """A round number below the axis."""

    x: float
    label: str


class Scale(NamedTuple):
    """A logarithmic axis of positive values, or one of both signs that is linear around 0.

    ``low`` and ``high`` are the ends after the transformation: log10, or asinh.
    """

    logarithmic: bool
    low: float
    high: float

    def has(self, value: float) -> bool:
        """Whether a value has a place on the axis."""
        return math.isfinite(value) and (value > 0 or not self.logarithmic)

    def share(self, value: float) -> float:
        """How far along the axis a value is, from 0 to 1; what is beyond an end is at the end."""
        moved = _transformed(value, self.logarithmic)
        return min(max((moved - self.low) / (self.high - self.low), 0.0), 1.0)

    def x(self, value: float) -> float:
        """Where a value is in a chart."""
        return round(GUTTER + self.share(value) * (WIDTH - 2 * GUTTER), 1)

    @property
    def ticks(self) -> list[Tick]:
        """Powers of ten, of both signs where the axis has them."""
        powers = self.powers() if self.logarithmic else self._signed_powers()
        return [Tick(self.x(value), label) for value, label in powers]

    def powers(self) -> list[tuple[float, str]]:
        """Powers of ten within the axis, with their labels; a few where there are many."""
        first, last = math.ceil(self.low), math.floor(self.high)
        step = max(1, math.ceil((last - first + 1) / MOST_TICKS))
        return [(10.0**power, _power(power)) for power in range(first, last + 1, step)]

    def _signed_powers(self) -> list[tuple[float, str]]:
        last = math.floor(math.log10(max(math.sinh(self.high), 1)))
        step = max(1, math.ceil((last + 1) / (MOST_TICKS // 2)))
        sizes = [(10.0**power, _power(power)) for power in range(last % step, last + 1, step)]
        negative = [(-value, f"−{label}") for value, label in reversed(sizes)]  # noqa: RUF001
        return [*negative, (0.0, "0"), *sizes]


def scale(values: Iterable[float], logarithmic: bool) -> Scale:
    """An axis on which every value that can be drawn has a place, and 0 the middle."""
    drawn = [v for v in values if math.isfinite(v) and (v > 0 or not logarithmic)]
    if not logarithmic:
        reach = _transformed(max(map(abs, drawn), default=1.0), False) * 1.03 or 1.0
        return Scale(False, -reach, reach)
    low = _transformed(min(drawn, default=0.1), True)
    high = _transformed(max(drawn, default=1.0), True)
    return Scale(True, math.floor(low - 0.1), math.ceil(high + 0.1))


def _transformed(value: float, logarithmic: bool) -> float:
    if logarithmic:
        return math.log10(min(max(value, LEAST), LARGEST))
    return math.asinh(min(max(value, -LARGEST), LARGEST))


def _power(exponent: int) -> str:
    if 0 <= exponent <= 3:
        return str(10**exponent)
    return "10" + str(exponent).translate(SUPERSCRIPTS)
