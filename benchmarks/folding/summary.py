"""The tables of folding."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks import tables
from benchmarks.folding.latency import Timed
from benchmarks.folding.outcomes import Outcome, Row

FOLDER = re.compile(r"/\S+/")  # a temporary one
HEADERS = (
    "tool",
    "removed",
    "wrong",
    "failed",
    "rms error to unfolded",
    "CPU seconds",
    "peak MiB",
)
OF_LATENCY = ("network", "as it stands (ms)", "folded", "optimised (ms)", "folded")


def summary(rows: Sequence[Row], tools: Sequence[str]) -> str:
    """A line for each tool, over all networks."""
    total = sum(row.before.batch_norms for row in rows)
    found = [_total(rows, tool, total) for tool in tools]
    return f"{len(rows)} networks, {total:,} BatchNorm.\n\n{tables.table(found, HEADERS)}"


def by_network(rows: Sequence[Row], tools: Sequence[str]) -> str:
    """The BatchNorms that each tool left."""
    found = [
        (row.name, str(row.before.batch_norms), *(_cell(row, row.outcomes[t]) for t in tools))
        for row in rows
    ]
    return tables.table(found, ("network", "BatchNorm", *tools))


def failures(rows: Sequence[Row], tools: Sequence[str]) -> str:
    """Why a tool failed, a line each; empty where none did."""
    found = [
        f"- {tool}, {row.name}: {FOLDER.sub('', row.outcomes[tool].failure)[:200]}"
        for tool in tools
        for row in rows
        if row.outcomes[tool].failure
    ]
    return "\n".join(found)


def _total(rows: Sequence[Row], tool: str, total: int) -> tuple[str, ...]:
    outcomes = [row.outcomes[tool] for row in rows]
    removed = total - sum(row.left(tool) for row in rows)
    peaks = [outcome.resident for outcome in outcomes if outcome.resident is not None]
    return (
        tool,
        f"{removed} ({removed / max(total, 1):.1%})",
        str(sum(_is_wrong(row, tool) for row in rows)),
        str(sum(o.quality is None for o in outcomes)),
        f"{_error(rows, tool):.3f}",
        f"{_cpu(rows, tool):.1f}",
        f"{max(peaks) / tables.MIB:,.0f}" if peaks else "-",
    )


def goals(rows: Sequence[Row], tools: Sequence[str]) -> str:
    """What was aimed at with files: the first two tools are bncheck's, the last folds nothing."""
    proved, plain, *peers = tools[:-1]
    fewer = [row.name for row in rows if row.left(proved) > min(row.left(t) for t in peers)]
    best = max(peers, key=lambda tool: -sum(row.left(tool) for row in rows))
    bad = sum(
        _is_wrong(row, tool) or not row.outcomes[tool].quality
        for row in rows
        for tool in (proved, plain)
    )
    mine, theirs = (
        _error(rows, tool) for tool in (proved, min(peers, key=lambda t: _error(rows, t)))
    )
    sure = [tool for tool in peers if all(row.outcomes[tool].quality for row in rows)]
    fastest = min(_cpu(rows, tool) for tool in sure)
    ratios = {tool: _cpu(rows, tool) / fastest for tool in (proved, plain)}
    memory = max(row.outcomes[plain].resident or 0 for row in rows) / tables.MIB
    return tables.goals(
        [
            tables.Goal(
                "more removed than by the best peer",
                f"{_share(rows, proved):.1%} to {_share(rows, best):.1%}, {best}",
                _share(rows, proved) > _share(rows, best),
            ),
            tables.Goal("never fewer than any peer", ", ".join(fewer) or "none", not fewer),
            tables.Goal("nothing wrong, no failure", str(bad), not bad),
            tables.Goal(
                "rms error at or below the best peer's",
                f"{mine:.3f} to {theirs:.3f}",
                mine <= theirs,
            ),
            tables.Goal(
                "CPU time at most the fastest peer's, without proof",
                f"{ratios[plain]:.2f} of it",
                ratios[plain] <= 1,
            ),
            tables.Goal(
                "CPU time at most twice the fastest peer's, with proof",
                f"{ratios[proved]:.1f} of it",
                ratios[proved] <= 2,
            ),
            tables.Goal("peak at most 100 MiB, without proof", f"{memory:.0f} MiB", memory <= 100),
        ]
    )


def latencies(rows: Sequence[Timed]) -> str:
    """How long models run before they are folded, and by how much the time changes."""
    lines = [
        (
            row.name,
            f"{row.plain_before * 1e3:,.1f}",
            f"{row.plain_after / row.plain_before - 1:+.1%}",
            f"{row.optimised_before * 1e3:,.1f}",
            f"{row.optimised_after / row.optimised_before - 1:+.1%}",
        )
        for row in rows
    ]
    plain = tables.geometric_mean([row.plain_after / row.plain_before for row in rows])
    optimised = tables.geometric_mean([row.optimised_after / row.optimised_before for row in rows])
    mean = ("geometric mean", "", f"{plain - 1:+.1%}", "", f"{optimised - 1:+.1%}")
    return tables.table([*lines, mean], OF_LATENCY)


def _cpu(rows: Sequence[Row], tool: str) -> float:
    return sum(row.outcomes[tool].cpu for row in rows if row.outcomes[tool].quality)


def _share(rows: Sequence[Row], tool: str) -> float:
    """Of all BatchNorms, those that are gone."""
    return 1 - sum(row.left(tool) for row in rows) / sum(row.before.batch_norms for row in rows)


def _error(rows: Sequence[Row], tool: str) -> float:
    """The geometric mean over networks of the rms error, as a ratio to that of the unfolded."""
    found = [row.outcomes[tool].quality for row in rows if _is_good(row, tool)]
    before = [row.before.error for row in rows if _is_good(row, tool)]
    pairs = zip(found, before, strict=True)
    return tables.geometric_mean([each.error / error for each, error in pairs if each])


def _is_wrong(row: Row, tool: str) -> bool:
    """Whether the output is another than the network's, which as it was exported was right."""
    quality = row.outcomes[tool].quality
    return quality is not None and quality.is_wrong and not row.before.is_wrong


def _is_good(row: Row, tool: str) -> bool:
    quality = row.outcomes[tool].quality
    return quality is not None and not quality.is_wrong and quality.error > 0


def _cell(row: Row, outcome: Outcome) -> str:
    if outcome.quality is None:
        return "failed"
    if outcome.quality.is_wrong and not row.before.is_wrong:
        return "**wrong**"
    return str(outcome.quality.batch_norms)
