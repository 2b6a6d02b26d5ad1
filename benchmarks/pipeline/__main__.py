"""Times a check of many small files: one process, two, and a process for each file.

    pip install -e . -r benchmarks/requirements.txt
    python -m benchmarks.pipeline [--write] [--quick] [--files N ...] [--runs N]

Whole processes, side by side: one job and two run in turns, after one round that warms up caches; a
process for each file runs once. The figures are medians. It needs Linux or macOS, and two cores
that have nothing else to do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.pipeline.measured import EACH, ONE, TWO, Measured
from benchmarks.processes import (
    FEWEST,
    Command,
    Cost,
    ProcessFailed,
    environment,
    interleaved,
    module,
    run,
)

COUNTS, QUICK_COUNTS = [100, 1_000], [100]
RUNS = 5
BNCHECK = (sys.executable, "-m", "bncheck", "check")
SHELL = f'for file in *.pt; do "{sys.executable}" -m bncheck check "$file" || exit 1; done'
COMMANDS = {
    ONE: Command((*BNCHECK, ".")),
    TWO: Command((*BNCHECK, "--jobs", "2", ".")),
    EACH: Command(("sh", "-c", SHELL)),
}


def main() -> None:
    """Measure, print the table, and write it where asked."""
    asked = _arguments()
    try:
        measured = [each for count in asked.files for each in _of(count, asked.runs)]
    except (ProcessFailed, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    from benchmarks import tables
    from benchmarks.pipeline.table import render

    text = render(measured)
    print(text)
    if asked.write:
        tables.write({"pipeline": text})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", nargs="+", type=int, metavar="N")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--quick", action="store_true", help="100 files, few runs: a minute")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    asked = parser.parse_args()
    asked.files = asked.files or (QUICK_COUNTS if asked.quick else COUNTS)
    asked.runs = FEWEST if asked.quick else asked.runs
    return asked


def _of(count: int, runs: int) -> list[Measured]:
    print(f"{count} files", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = module("pipeline.models", count, folder)
        subprocess.run(words, check=True, env=environment())
        ways = {way: COMMANDS[way] for way in (ONE, TWO)}
        costs: Mapping[str, Sequence[Cost]] = interleaved(ways, runs, folder)
        each = run(COMMANDS[EACH], folder)
    return [_measured(count, way, held) for way, held in {**costs, EACH: [each]}.items()]


def _measured(count: int, way: str, costs: Sequence[Cost]) -> Measured:
    resident = max(cost.resident for cost in costs)
    return Measured(count, way, median(cost.seconds for cost in costs), resident)


if __name__ == "__main__":
    main()
