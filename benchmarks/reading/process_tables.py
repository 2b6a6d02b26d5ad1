"""What judging.py and live.py have measured, as tables, and which goals that meets."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import tables
from benchmarks.reading.judging import Measured as Judged
from benchmarks.reading.live import Measured as Live
from benchmarks.tables import Goal


def rules(results: Sequence[Judged]) -> str:
    """Reading and judging, in one process."""
    rows = [
        (each.title, f"{each.layers:,}", *map(_ms, (each.structure, each.values, each.rules)))
        for each in results
    ]
    headers = ("file", "norm layers", "read structure (ms)", "read values (ms)", "all rules (ms)")
    parts = {each.title: each.rules / (each.structure + each.values) for each in results}
    worst = max(parts, key=lambda title: parts[title])
    goal = Goal(
        "all rules take at most as long as reading",
        f"{parts[worst]:.2f} of it: {worst}",
        parts[worst] <= 1,
    )
    return f"{tables.table(rows, headers)}\n\n{tables.goals([goal])}"


def live(results: Sequence[Live]) -> str:
    """Checking and tracing, in one process."""
    rows = [
        (
            each.title,
            *map(_ms, (each.check, each.symbolic_trace, each.check_with_inputs, each.export)),
        )
        for each in results
    ]
    headers = (
        "module",
        "check (ms)",
        "torch.fx.symbolic_trace (ms)",
        "check with inputs (ms)",
        "torch.export (ms)",
    )
    held = [
        _faster("a check takes less than torch.fx.symbolic_trace", results, "check"),
        _faster("a check with inputs takes less than torch.export", results, "check_with_inputs"),
    ]
    return f"{tables.table(rows, headers)}\n\n{tables.goals(held)}"


def _faster(text: str, results: Sequence[Live], way: str) -> Goal:
    traces = {"check": "symbolic_trace", "check_with_inputs": "export"}
    parts = {each.title: getattr(each, way) / getattr(each, traces[way]) for each in results}
    worst = max(parts, key=lambda title: parts[title])
    return Goal(text, f"{parts[worst]:.2f} of it: {worst}", parts[worst] < 1)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f}"
