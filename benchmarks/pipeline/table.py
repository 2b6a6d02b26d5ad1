"""What __main__.py has measured, as a table, and which goals that meets."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import tables
from benchmarks.pipeline.measured import ONE, TWO, Measured
from benchmarks.tables import MIB, Goal

FASTER = 1.8  # times, with two jobs
GROWTH = 8 * MIB  # that ten times as many files may take


def render(measured: Sequence[Measured]) -> str:
    """A row for each way and number of files, then the goals, then the machine."""
    headers = ("files", "way", "time (s)", "files a second", "times faster", "resident (MiB)")
    rows = [
        (
            f"{each.files:,}",
            each.way,
            f"{each.seconds:.2f}",
            f"{each.files / each.seconds:,.0f}",
            f"{_of(measured, each.files, ONE).seconds / each.seconds:.2f}",
            f"{each.resident / MIB:.0f}",
        )
        for each in measured
    ]
    held = tables.goals([_speed(measured), _memory(measured)])
    return "\n\n".join((tables.table(rows, headers, words=2), held, tables.machine()))


def _of(measured: Sequence[Measured], files: int, way: str) -> Measured:
    return next(each for each in measured if (each.files, each.way) == (files, way))


def _speed(measured: Sequence[Measured]) -> Goal:
    most = max(each.files for each in measured)
    faster = _of(measured, most, ONE).seconds / _of(measured, most, TWO).seconds
    text = f"two jobs are at least {FASTER} times faster than one"
    return Goal(text, f"{faster:.2f} times, {most:,} files", faster >= FASTER)


def _memory(measured: Sequence[Measured]) -> Goal:
    fewest, most = (pick(each.files for each in measured) for pick in (min, max))
    growth = {
        way: _of(measured, most, way).resident - _of(measured, fewest, way).resident
        for way in (ONE, TWO)
    }
    worst = max(growth, key=lambda way: growth[way])
    text = f"from {fewest:,} files to {most:,}, memory grows by no more than {GROWTH // MIB} MiB"
    return Goal(text, f"{growth[worst] / MIB:.1f} MiB, {worst}", growth[worst] <= GROWTH)
