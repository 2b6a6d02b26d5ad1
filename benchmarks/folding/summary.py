"""The tables of folding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

from benchmarks import tables
from benchmarks.folding.outcomes import Outcome, Row

HEADERS = (
    "tool",
    "removed",
    "wrong",
    "failed",
    "rms error to unfolded",
    "CPU seconds",
    "peak MiB",
)


def summary(rows: Sequence[Row], tools: Sequence[str]) -> str:
    """A line for each tool, over all networks."""
    total = sum(row.before.batch_norms for row in rows)
    found = [_total(rows, tool, total) for tool in tools]
    return f"{len(rows)} networks, {total:,} BatchNorm.\n\n{tables.table(found, HEADERS)}"


def by_network(rows: Sequence[Row], tools: Sequence[str]) -> str:
    """The BatchNorms that each tool left, and how much faster its model is, where measured."""
    found = [
        (row.name, str(row.before.batch_norms), *(_cell(row, row.outcomes[t]) for t in tools))
        for row in rows
    ]
    return tables.table(found, ("network", "BatchNorm", *tools))


def failures(rows: Sequence[Row], tools: Sequence[str]) -> str:
    """Why a tool failed, a line each; empty where none did."""
    found = [
        f"- {tool}, {row.name}: {row.outcomes[tool].failure[:200]}"
        for tool in tools
        for row in rows
        if row.outcomes[tool].failure
    ]
    return "\n".join(found)


def _total(rows: Sequence[Row], tool: str, total: int) -> tuple[str, ...]:
    outcomes = [row.outcomes[tool] for row in rows]
    ratios = [
        row.outcomes[tool].quality.error / row.before.error for row in rows if _is_good(row, tool)
    ]
    removed = total - sum(row.left(tool) for row in rows)
    peaks = [outcome.resident for outcome in outcomes if outcome.resident is not None]
    return (
        tool,
        f"{removed} ({removed / max(total, 1):.1%})",
        str(sum(o.quality is not None and o.quality.is_wrong for o in outcomes)),
        str(sum(o.quality is None for o in outcomes)),
        f"{_geometric_mean(ratios):.3f}",
        f"{sum(o.cpu for o in outcomes if o.quality is not None):.1f}",
        f"{max(peaks) / tables.MIB:,.0f}" if peaks else "-",
    )


def _is_good(row: Row, tool: str) -> bool:
    quality = row.outcomes[tool].quality
    return quality is not None and not quality.is_wrong and quality.error > 0


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(mean(map(math.log, values))) if values else math.nan


def _cell(row: Row, outcome: Outcome) -> str:
    if outcome.quality is None:
        return "failed"
    if outcome.quality.is_wrong:
        return "**wrong**"
    speed = row.before.latency / outcome.quality.latency
    faster = "" if math.isnan(speed) else f", {speed:.2f}x"
    return f"{outcome.quality.batch_norms}{faster}"
