"""What tensors.py has measured, as tables, and which goals that meets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from benchmarks import tables
from benchmarks.processes import Cost
from benchmarks.reading.contenders import BNCHECK, FLOOR
from benchmarks.reading.tensors import Measured
from benchmarks.tables import MIB, Goal

FEW = 1_000
EACH = 20e-6  # seconds for each further tensor
ABOVE_FLOOR = 0.080  # seconds over a process that only imports click
RESIDENT, RESIDENT_EACH = 40 * MIB, 1024  # bytes: at all, and for each tensor


def render(results: Sequence[Measured]) -> str:
    """Time and memory by the number of tensors, and what the goals say of them."""
    counts = sorted({count for each in results for count in each.costs})
    rows = [row for each in results for row in _rows(each, counts)]
    headers = ("file", "process", *(f"{count:,} tensors" for count in counts))
    figures = tables.table(rows, headers, words=2)
    return f"Time in ms, and peak resident memory:\n\n{figures}\n\n{tables.goals(_goals(results))}"


def _rows(result: Measured, counts: Sequence[int]) -> Iterator[tuple[str, ...]]:
    title = result.title
    for name in next(iter(result.costs.values())):
        if name != FLOOR:
            yield (title, name, *(_figures(result.costs[count][name]) for count in counts))
            title = ""


def _figures(costs: Iterable[Cost]) -> str:
    runs = tuple(costs)
    return f"{_seconds(runs) * 1e3:,.0f} ms, {_resident(runs) / MIB:,.0f} MiB"


def _seconds(costs: Iterable[Cost]) -> float:
    return median(cost.seconds for cost in costs)


def _resident(costs: Iterable[Cost]) -> float:
    return median(cost.resident for cost in costs)


def _goals(results: Iterable[Measured]) -> Iterator[Goal]:
    few: dict[str, float] = {}
    each: dict[str, float] = {}
    room: dict[str, float] = {}
    for result in results:
        for count, costs in result.costs.items():
            where = f"{result.title}, {count:,} tensors"
            extra = _seconds(costs[BNCHECK]) - _seconds(costs[FLOOR])
            room[where] = max(_resident(costs[BNCHECK]) - RESIDENT, 0) / count
            if count <= FEW:
                few[where] = extra
            else:
                each[where] = (extra - ABOVE_FLOOR) / (count - FEW)
    texts = ("at most 80 ms more than only importing click, up to 1,000 tensors",)
    yield from _worst(texts[0], few, ABOVE_FLOOR, 1e3, "ms")
    yield from _worst("20 µs for each further one", each, EACH, 1e6, "µs")
    yield from _worst("40 MiB resident, and 1 KiB for each tensor", room, RESIDENT_EACH, 1, "bytes")


def _worst(
    text: str, cases: Mapping[str, float], most: float, scale: float, unit: str
) -> Iterator[Goal]:
    if cases:
        where = max(cases, key=lambda each: cases[each])
        worst = f"{cases[where] * scale:,.0f} {unit}: {where}"
        yield Goal(text, worst, cases[where] <= most)
