"""Running variance through a model: for each layer its range, its middle half and its median."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bncheck.reports.html.scales import Scale, Tick, scale
from bncheck.reports.html.series import VARIANCE, Limit, Series

WIDTH, HEIGHT = 960, 180
LEFT = 44  # for the labels of the axis
FEWEST = 3  # layers that make a picture
WIDEST = 14  # of a mark


class Overview(NamedTuple):
    """Paths of all layers: by level the ranges, the middle halves, and the medians."""

    marks: tuple[Mark, ...]
    ticks: tuple[Tick, ...]  # x is the height here
    lines: tuple[tuple[float, str], ...]
    label: str


class Mark(NamedTuple):
    """The layers of one level."""

    level: str
    ranges: str
    halves: str
    medians: str


def overview(layers: Sequence[tuple[str, list[Series]]]) -> Overview | None:
    """The picture of layers in order, each with its level; None of too few."""
    drawn = [
        (index, level, each)
        for index, (level, found) in enumerate(layers)
        for each in found
        if each.quantity is VARIANCE and any(map(_is_drawn, each.values))
    ]
    if len(drawn) < FEWEST:
        return None
    limits = _shared(each.limits for _, _, each in drawn)
    values = [v for _, _, each in drawn for v in (min(_positive(each)), max(_positive(each)))]
    axis = scale([*values, *(limit.value for limit in limits)], True)
    step = (WIDTH - LEFT) / len(layers)
    marks = [
        _mark(level, [(index, each) for index, its, each in drawn if its == level], axis, step)
        for level in dict.fromkeys(level for _, level, _ in drawn)
    ]
    return Overview(
        tuple(marks),
        tuple(Tick(_y(axis, 10.0**power), label) for power, label in _decades(axis)),
        tuple((_y(axis, limit.value), limit.rule) for limit in limits),
        f"Running variance of {len(drawn)} layers in order, on a logarithmic axis: from "
        f"{min(values):.3g} to {max(values):.3g}.",
    )


def _decades(axis: Scale) -> list[tuple[int, str]]:
    return [(round(math.log10(value)), label) for value, label in axis.powers()]


def _shared(limits: Iterable[tuple[Limit, ...]]) -> tuple[Limit, ...]:
    """The thresholds, where they are the same in every layer."""
    different = set(limits)
    return different.pop() if len(different) == 1 else ()


def _mark(level: str, layers: Sequence[tuple[int, Series]], axis: Scale, step: float) -> Mark:
    ranges, halves, medians = [], [], []
    width = min(step * 0.7, WIDEST)
    for index, each in layers:
        ordered = sorted(_positive(each))
        at = [
            _y(axis, ordered[round(share * (len(ordered) - 1))])
            for share in (0, 0.25, 0.5, 0.75, 1)
        ]
        middle = LEFT + (index + 0.5) * step
        ranges.append(f"M{middle:.1f} {at[0]}V{at[4]}")
        left = middle - width / 2
        halves.append(f"M{left:.1f} {at[1]}V{at[3]}h{width:.1f}V{at[1]}z")
        medians.append(f"M{left:.1f} {at[2]}h{width:.1f}")
    return Mark(level, "".join(ranges), "".join(halves), "".join(medians))


def _positive(each: Series) -> list[float]:
    return [value for value in each.values if _is_drawn(value)]


def _is_drawn(value: float) -> bool:
    return 0 < value < math.inf


def _y(axis: Scale, value: float) -> float:
    return round(HEIGHT * (1 - axis.share(value)), 1)
