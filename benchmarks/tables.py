"""The figures as Markdown: what each process cost, and which goals that meets."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import NamedTuple

from contenders import BNCHECK, ONNX_LOAD, TORCH_LOAD, Measured, Rival
from tabulate import tabulate

BEGIN, END = "<!-- reading: begin -->", "<!-- reading: end -->"
MIB = 1 << 20
GB = 10**9
GROWTH = 1.1  # of time or bytes over all sizes, still called independent of the size
PACKAGES = ("torch", "onnx", "safetensors")


class Typical(NamedTuple):
    """Medians over the runs of one process on one file."""

    seconds: float
    resident: float
    read: float | None


def render(results: Sequence[Measured], runs: int, floor: int) -> str:
    """All that there is to say; ``floor`` in bytes: less memory than that cannot be seen."""
    return "\n\n".join((_machine(runs, floor), _costs(results), _goals(results)))


def write(readme: Path, text: str) -> None:
    """Put the text between the markers of a README, in place of what was there."""
    before, _, rest = readme.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


def _machine(runs: int, floor: int) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}. Medians of {runs} runs; "
        f"less than {floor / MIB:.0f} MiB resident cannot be told apart."
    )


def _costs(results: Iterable[Measured]) -> str:
    rows = [row for result in results for row in _rows(result)]
    headers = ("file", "process", "time (ms)", "resident (MiB)", "read (MB)", "bncheck is faster")
    aligned = ("left", "left", "right", "right", "right", "right")
    return tabulate(rows, headers, tablefmt="github", colalign=aligned, disable_numparse=True)


def _rows(result: Measured) -> Iterator[tuple[str, ...]]:
    title = _title(result)
    for name in result.costs:
        cost = _typical(result, name)
        ratio = "" if name == BNCHECK else f"{_ratio(result, name):.1f} x"
        yield (title, name, *_figures(cost), ratio)
        title = ""


def _title(result: Measured) -> str:
    return f"{result.format.title}, {result.size / 1e6:,.0f} MB"


def _figures(cost: Typical) -> tuple[str, str, str]:
    read = "unknown" if cost.read is None else f"{cost.read / 1e6:,.1f}"
    return f"{cost.seconds * 1e3:,.0f}", f"{cost.resident / MIB:,.0f}", read


def _typical(result: Measured, name: str) -> Typical:
    costs = result.costs[name]
    read = [cost.read for cost in costs if cost.read is not None]
    return Typical(
        median(cost.seconds for cost in costs),
        median(cost.resident for cost in costs),
        median(read) if read else None,
    )


def _ratio(result: Measured, name: str) -> float:
    return _typical(result, name).seconds / _typical(result, BNCHECK).seconds


Row = tuple[str, str, str]


class Case(NamedTuple):
    """A figure, and the file where it was met."""

    value: float
    where: str


def _goals(results: Sequence[Measured]) -> str:
    large = [result for result in results if result.asked >= GB]
    times = _growth(results, lambda cost: cost.seconds)
    bytes_read = _growth(results, lambda cost: cost.read)
    rows = (
        _at_least("10 times faster than the best torch way", 10, _against(results, _needs_torch)),
        _at_least("30 times faster than torch.load of 1 GB", 30, _against(large, _is_torch_load)),
        _at_least("10 times faster than onnx.load", 10, _against(results, _is_onnx_load)),
        _at_most("at most 40 MiB resident", 40, "MiB", _residents(results)),
        _at_most("time independent of the size", GROWTH, "x", times),
        _at_most("bytes read independent of the size", GROWTH, "x", bytes_read),
    )
    headers = ("goal", "worst case", "met")
    return tabulate(list(filter(None, rows)), headers, tablefmt="github", disable_numparse=True)


def _needs_torch(rival: Rival) -> bool:
    return rival.library == "torch"


def _is_torch_load(rival: Rival) -> bool:
    return rival.name == TORCH_LOAD


def _is_onnx_load(rival: Rival) -> bool:
    return rival.name == ONNX_LOAD


def _against(results: Iterable[Measured], meant: Callable[[Rival], bool]) -> Iterator[Case]:
    """How many times faster bncheck is than the best of the rivals that are meant, per file."""
    for result in results:
        ratios = [_ratio(result, rival.name) for rival in result.format.rivals if meant(rival)]
        if ratios:
            yield Case(min(ratios), _title(result))


def _residents(results: Iterable[Measured]) -> Iterator[Case]:
    return (Case(_typical(each, BNCHECK).resident / MIB, _title(each)) for each in results)


def _growth(
    results: Iterable[Measured], figure: Callable[[Typical], float | None]
) -> Iterator[Case]:
    """A figure of bncheck's for a format's largest file, in parts of that for the smallest."""
    for title, group in groupby(results, key=lambda each: each.format.title):
        figures = [figure(_typical(each, BNCHECK)) for each in group]
        least, most = figures[0], figures[-1]
        if least and most and len(figures) > 1:
            yield Case(most / least, title)


def _at_least(goal: str, wanted: float, cases: Iterable[Case]) -> Row | None:
    worst = min(cases, default=None)
    return worst and (goal, f"{worst.value:.1f} x: {worst.where}", _met(worst.value >= wanted))


def _at_most(goal: str, wanted: float, unit: str, cases: Iterable[Case]) -> Row | None:
    worst = max(cases, default=None)
    return worst and (goal, f"{worst.value:.2f} {unit}: {worst.where}", _met(worst.value <= wanted))


def _met(is_met: bool) -> str:
    return "yes" if is_met else "**no**"
