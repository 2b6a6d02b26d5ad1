"""What files.py has measured, as tables, and which goals that meets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from statistics import median

from benchmarks import tables
from benchmarks.processes import Cost
from benchmarks.reading.contenders import BNCHECK, FLOOR, Rival
from benchmarks.reading.contenders import Goal as Kind
from benchmarks.reading.files import Measured
from benchmarks.tables import MIB, Goal

ABOVE_FLOOR = 0.080  # seconds over a process that only imports click
RESIDENT = 40 * MIB
GB = 10**9
NOTHING = "-"


def render(results: Sequence[Measured], runs: int, floor: int) -> str:
    """All that there is to say; ``floor`` in bytes: less memory than that cannot be seen."""
    sizes = sorted({each.asked for each in results})
    told = f"Medians of {runs} runs, of the slow ones of fewer. Less than {floor / MIB:.0f} MiB"
    return "\n\n".join(
        (
            f"{tables.machine()} {told} resident cannot be told apart.",
            "Time in ms, and in brackets how many times that of bncheck:",
            _table(results, sizes, _time),
            "Peak resident memory in MiB:",
            _table(results, sizes, _resident),
            "MB that read calls returned:",
            _table(results, sizes, _read),
            tables.goals(_goals([each for each in results if each.costs])),
        )
    )


Cell = Callable[[Measured, str], str]


def _table(results: Iterable[Measured], sizes: Sequence[int], cell: Cell) -> str:
    rows = [
        row
        for title, group in groupby(results, key=lambda each: each.format.title)
        for row in _rows(title, {each.asked: each for each in group}, sizes, cell)
    ]
    return tables.table(rows, ("file", "process", *map(tables.size, sizes)), words=2)


def _rows(
    title: str, by_size: dict[int, Measured], sizes: Sequence[int], cell: Cell
) -> Iterator[tuple[str, ...]]:
    (form,) = {each.format for each in by_size.values()}
    names = (BNCHECK, FLOOR, *(rival.name for rival in form.rivals))
    missing = {rival.name for rival in form.rivals if not rival.is_installed}
    for name in names:
        cells = [_cell(by_size.get(size), name, cell) for size in sizes]
        yield (title, name, *(["not installed"] * len(sizes) if name in missing else cells))
        title = ""


def _cell(result: Measured | None, name: str, cell: Cell) -> str:
    return cell(result, name) if result and name in result.costs else NOTHING


def _time(result: Measured, name: str) -> str:
    shown = f"{seconds(result, name) * 1e3:,.0f}"
    return shown if name in (BNCHECK, FLOOR) else f"{shown} ({ratio(result, name):.1f} x)"


def _resident(result: Measured, name: str) -> str:
    return f"{_typical(result.costs[name], lambda cost: cost.resident) / MIB:,.0f}"


def _read(result: Measured, name: str) -> str:
    if any(cost.read is None for cost in result.costs[name]):
        return "unknown"
    return f"{_typical(result.costs[name], lambda cost: cost.read or 0) / 1e6:,.1f}"


def _typical(costs: Iterable[Cost], figure: Callable[[Cost], float]) -> float:
    return median(map(figure, costs))


def seconds(result: Measured, name: str) -> float:
    """The median time of a process on a file."""
    return _typical(result.costs[name], lambda cost: cost.seconds)


def ratio(result: Measured, name: str) -> float:
    """How many times as long as bncheck a process takes on a file."""
    return seconds(result, name) / seconds(result, BNCHECK)


def _goals(results: Sequence[Measured]) -> Iterator[Goal]:
    yield _above_floor(results)
    yield _largest(results)
    yield from _at_least(10, "torch.load(mmap=True)", results, Kind.MAPPED)
    for size, times in ((GB, 30), (4 * GB, 60)):
        of_size = [each for each in results if each.asked == size]
        what = f"{Kind.WHOLE.value} of {tables.size(size)}"
        yield from _at_least(times, what, of_size, Kind.WHOLE)
    yield from _at_least(1, "any other on the same file", results, *Kind)


def _where(result: Measured) -> str:
    return f"{result.format.title}, {tables.size(result.asked)}"


def _above_floor(results: Iterable[Measured]) -> Goal:
    extra = {_where(each): seconds(each, BNCHECK) - seconds(each, FLOOR) for each in results}
    worst = max(extra, key=lambda where: extra[where])
    text = f"at most {ABOVE_FLOOR * 1e3:.0f} ms more than only importing click"
    return Goal(text, f"{extra[worst] * 1e3:.0f} ms: {worst}", extra[worst] <= ABOVE_FLOOR)


def _largest(results: Iterable[Measured]) -> Goal:
    held = {
        _where(each): _typical(each.costs[BNCHECK], lambda cost: cost.resident) for each in results
    }
    worst = max(held, key=lambda where: held[where])
    text = f"at most {RESIDENT / MIB:.0f} MiB resident"
    return Goal(text, f"{held[worst] / MIB:.0f} MiB: {worst}", held[worst] <= RESIDENT)


def _at_least(times: float, what: str, results: Iterable[Measured], *kinds: Kind) -> Iterator[Goal]:
    ratios = {
        f"{rival.name}, {_where(each)}": ratio(each, rival.name)
        for each in results
        for rival in _meant(each, kinds)
    }
    if ratios:
        worst = min(ratios, key=lambda where: ratios[where])
        faster = f"{times:.0f} times faster than" if times > 1 else "slower than no"
        yield Goal(
            f"{faster} {what}".replace("no any other", "no other"),
            f"{ratios[worst]:.1f} x: {worst}",
            ratios[worst] >= times,
        )


def _meant(result: Measured, kinds: Sequence[Kind]) -> list[Rival]:
    rivals = [rival for rival in result.format.rivals if rival.name in result.costs]
    return [rival for rival in rivals if rival.goal in kinds]
