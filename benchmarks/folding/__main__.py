"""Folds real networks with bncheck and with the tools that people use, side by side.

    pip install -e ".[all]" -r benchmarks/requirements.txt
    python -m benchmarks.folding [NETWORK ...] [--write] [--latency]

Each network is exported by the TorchScript exporter with its BatchNorms kept, folded by each tool
in a process of its own, and judged against the network in float64. ``--latency`` times the results
in onnxruntime too. All networks take about an hour.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from benchmarks.folding.names import NAMES
from benchmarks.folding.tools import TOOLS
from benchmarks.processes import Command, Cost, ProcessFailed, environment, module, run

OURS, UNVERIFIED = "bncheck", "bncheck --no-verify"


@dataclass(frozen=True, slots=True)
class Quality:
    """``error`` is the rms error against float64, relative to the output.

    ``latency`` is the median time of a run in onnxruntime with all its optimisations, in seconds.
    """

    batch_norms: int
    nodes: int
    error: float
    latency: float

    @property
    def is_wrong(self) -> bool:
        """Whether the output is not the network's."""
        return not self.error < 1e-2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tool made of one network, at which cost; the reason where it failed."""

    cost: Cost | None
    quality: Quality | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One network: as it was exported, and folded by each tool."""

    name: str
    before: Quality
    outcomes: Mapping[str, Outcome]


def main() -> None:
    """Fold, print the tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", default=list(NAMES))
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--latency", action="store_true", help="time the folded models too")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    asked = parser.parse_args()
    rows = []
    for row in _rows(asked.networks, asked.tools, asked.latency):
        rows.append(row)
        print(_progress(row), file=sys.stderr, flush=True)
    from benchmarks import tables

    parts = _parts(rows, asked.tools)
    for name, text in parts.items():
        print(f"## {name}\n\n{text}\n")
    if asked.write:
        tables.write(parts)


def _rows(names: Sequence[str], tools: Sequence[str], patient: bool) -> Iterator[Row]:
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            source, truth = Path(folder) / "model.onnx", Path(folder) / "truth.npz"
            try:
                _script("export", name, str(source), str(truth))
                before = _judged(source, truth, patient)
            except ProcessFailed as error:
                print(f"{name}: not exported: {error}", file=sys.stderr)
                continue
            outcomes = {tool: _outcome(tool, source, truth, patient) for tool in tools}
            yield Row(name, before, outcomes)


def _script(name: str, *words: str) -> str:
    """Run a module of this folder; what it printed. Raises ProcessFailed."""
    command = module(f"folding.{name}", *words)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        raise ProcessFailed(next(iter(done.stderr.strip().splitlines()[-1:]), "failed"))
    return done.stdout


def _judged(path: Path, truth: Path, patient: bool) -> Quality:
    printed = _script("judge", str(path), str(truth), *(["--latency"] if patient else []))
    return Quality(**json.loads(printed.strip().splitlines()[-1]))


def _outcome(tool: str, source: Path, truth: Path, patient: bool) -> Outcome:
    target = source.with_name(f"{tool.replace(' ', '-')}.onnx")
    words = module("folding.tools", tool, source, target)
    try:
        cost = run(Command(words), source.parent)
        return Outcome(cost, _judged(target, truth, patient))
    except ProcessFailed as error:
        return Outcome(None, None, str(error))


def _progress(row: Row) -> str:
    left = {tool: _left(outcome, row) for tool, outcome in row.outcomes.items()}
    return f"{row.name}: {row.before.batch_norms} BatchNorm, left: {left}"


def _left(outcome: Outcome, row: Row) -> int:
    """BatchNorms that stay; all of them where the tool failed."""
    return row.before.batch_norms if outcome.quality is None else outcome.quality.batch_norms


def _parts(rows: Sequence[Row], tools: Sequence[str]) -> dict[str, str]:
    return {"Folding": _summary(rows, tools), "Folding by network": _by_network(rows, tools)}


def _summary(rows: Sequence[Row], tools: Sequence[str]) -> str:
    from benchmarks import tables

    total = sum(row.before.batch_norms for row in rows)
    found = [_total(rows, tool, total) for tool in tools]
    headers = (
        "tool",
        "removed",
        "wrong",
        "failed",
        "rms error to unfolded",
        "CPU seconds",
        "peak MiB",
    )
    return f"{len(rows)} networks, {total} BatchNorm.\n\n" + tables.table(found, headers)


def _total(rows: Sequence[Row], tool: str, total: int) -> tuple[str, ...]:
    outcomes = [(row, row.outcomes[tool]) for row in rows]
    good = [(row, o) for row, o in outcomes if o.quality is not None and not o.quality.is_wrong]
    wrong = sum(o.quality is not None and o.quality.is_wrong for _, o in outcomes)
    left = sum(_left(o, row) for row, o in outcomes)
    ratios = [o.quality.error / row.before.error for row, o in good if o.quality is not None]
    costs = [o.cost for _, o in outcomes if o.cost is not None]
    return (
        tool,
        f"{total - left} ({(total - left) / max(total, 1):.1%})",
        str(wrong),
        str(sum(o.quality is None for _, o in outcomes)),
        f"{_geometric_mean(ratios):.3f}",
        f"{sum(cost.cpu for cost in costs):.1f}",
        f"{max((cost.resident for cost in costs), default=0) / 2**20:,.0f}",
    )


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(mean(map(math.log, values))) if values else math.nan


def _by_network(rows: Sequence[Row], tools: Sequence[str]) -> str:
    from benchmarks import tables

    found = [
        (row.name, str(row.before.batch_norms), *(_cell(row, row.outcomes[t]) for t in tools))
        for row in rows
    ]
    return tables.table(found, ("network", "BatchNorm", *tools))


def _cell(row: Row, outcome: Outcome) -> str:
    if outcome.quality is None:
        return "failed"
    if outcome.quality.is_wrong:
        return "**wrong**"
    speed = row.before.latency / outcome.quality.latency
    faster = "" if math.isnan(speed) else f", {speed:.2f}x"
    return f"{outcome.quality.batch_norms}{faster}"


if __name__ == "__main__":
    main()
