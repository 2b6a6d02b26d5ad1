"""Histograms as SVG paths: bars, thresholds, and a sentence for those who do not see them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bncheck.reports.html.scales import GUTTER, WIDTH, Scale, Tick, scale
from bncheck.reports.html.series import Quantity, Series

BINS = 49  # odd: a bar stands on 0
HEIGHT = 56  # of the bars
LOWEST = 2.5  # of a bar that stands for few channels
BAR = (WIDTH - 2 * GUTTER) / BINS
SIDE = 12  # width of a bar in the gutter


class Line(NamedTuple):
    """A threshold in a chart."""

    x: float
    rule: str


class Chart(NamedTuple):
    """A histogram. ``beyond`` are the bars with values beyond a threshold, ``aside`` those of what
    has no place on the axis: counts by name."""

    quantity: Quantity
    bars: str
    beyond: str
    lines: tuple[Line, ...]
    nothing: str
    broken: str
    caption: str
    label: str


class Axis(NamedTuple):
    """An axis that the charts of a model share."""

    quantity: Quantity
    scale: Scale

    @property
    def ticks(self) -> list[Tick]:
        """What is written below."""
        return self.scale.ticks


def axes(drawn: Iterable[Series]) -> dict[str, Axis]:
    """One axis for each quantity, by its key, with room for every value and every threshold."""
    together: dict[Quantity, list[float]] = {}
    for each in drawn:
        ends = together.setdefault(each.quantity, [])
        ends += _extremes(each.values)
        ends += [limit.value for limit in each.limits]
    return {q.key: Axis(q, scale(values, q.logarithmic)) for q, values in together.items()}


def _extremes(values: Sequence[float]) -> list[float]:
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    ends = [each(some) for each in (min, max) for some in (finite, positive) if some]
    return list(dict.fromkeys(ends))


def chart(drawn: Series, axis: Axis) -> Chart:
    """The histogram of a series on a shared axis."""
    placed = [i for i, value in enumerate(drawn.values) if axis.scale.has(value)]
    nothing = sum(math.isfinite(v) for v in drawn.values) - len(placed)
    broken = len(drawn.values) - len(placed) - nothing
    counts, marked = _counted(placed, drawn, axis.scale)
    most = max([*counts, nothing, broken, 1])
    said = _caption(drawn, placed, nothing, broken)
    lines = tuple(Line(axis.scale.x(limit.value), limit.rule) for limit in drawn.limits)
    return Chart(
        quantity=drawn.quantity,
        bars=_bars(
            counts, most, [i for i, count in enumerate(counts) if count and i not in marked]
        ),
        beyond=_bars(counts, most, sorted(marked)),
        lines=lines,
        nothing=_bar(0, SIDE, nothing, most),
        broken=_bar(WIDTH - SIDE, SIDE, broken, most),
        caption=said,
        label=f"{drawn.quantity.title} of {len(drawn.values)} channels: {said}.",
    )


def _counted(placed: Iterable[int], drawn: Series, axis: Scale) -> tuple[list[int], set[int]]:
    """How many channels each bin has, and which bins have some beyond a threshold."""
    counts, marked = [0] * BINS, set()
    for channel in placed:
        index = min(int(axis.share(drawn.values[channel]) * BINS), BINS - 1)
        counts[index] += 1
        if drawn.is_beyond(channel):
            marked.add(index)
    return counts, marked


def _bars(counts: Sequence[int], most: int, indices: Iterable[int]) -> str:
    return "".join(_bar(GUTTER + i * BAR, BAR * 0.86, counts[i], most) for i in indices)


def _bar(x: float, width: float, count: int, most: int) -> str:
    """A bar that stands on the axis; nothing where there is nothing to count."""
    if not count:
        return ""
    height = LOWEST + (HEIGHT - LOWEST) * count / most
    return f"M{x:.1f} {HEIGHT}v-{height:.1f}h{width:.1f}v{height:.1f}z"


def _caption(drawn: Series, placed: list[int], nothing: int, broken: int) -> str:
    parts = []
    if placed:
        ordered = sorted(drawn.values[channel] for channel in placed)
        middle = ordered[len(ordered) // 2]
        parts = [f"{ordered[0]:.3g} to {ordered[-1]:.3g}", f"median {middle:.3g}"]
    if nothing:
        parts.append(f"{nothing} {drawn.quantity.nothing}")
    if broken:
        parts.append(f"{broken} NaN or infinite")
    beyond = sum(map(drawn.is_beyond, placed))
    if beyond:
        parts.append(f"{beyond} beyond a threshold")
    return ", ".join(parts)
