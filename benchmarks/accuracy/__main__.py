"""How often bncheck cries wolf: healthy networks as the files that people make of them.

    pip install -e ".[all]" -r benchmarks/requirements.txt
    python -m benchmarks.accuracy [--part PART ...] [--architectures N] [--cache DIR] [--write]

Each network is made, exported and checked in a process of its own. ``--cache`` keeps what came of
it, network by network: a run that was stopped goes on from there, and what is to be measured anew
is deleted there. All parts take about two hours. It needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.accuracy import rows
from benchmarks.accuracy.names import NAMES, TRAINED
from benchmarks.accuracy.rows import Row

PARTS = {"healthy": NAMES, "traps": NAMES, "trained": TRAINED}
PATIENCE = 1800  # seconds for all files of one network


def main() -> None:
    """Check, print the tables, and write them where asked."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        cache = asked.cache or Path(folder)
        found = {part: list(_rows(part, asked, cache)) for part in asked.part}
    from benchmarks import tables
    from benchmarks.accuracy import tables as ours

    parts = ours.render([row for each in found.values() for row in each])
    for name, text in parts.items():
        print(f"## {name}\n\n{text}\n")
    if asked.write:
        tables.write(parts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--architectures", type=int, metavar="N", help="so many, evenly chosen")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep results, and use them")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="networks at a time")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    return parser.parse_args()


def _rows(part: str, asked: argparse.Namespace, cache: Path) -> Iterator[Row]:
    names = _evenly(PARTS[part], asked.architectures)

    def of(name: str) -> list[Row]:
        found = list(rows.of(cache, part, name, PATIENCE))
        print(f"{part} {name}: {_progress(found)}", file=sys.stderr, flush=True)
        return found

    with ThreadPoolExecutor(asked.jobs) as pool:
        for found in pool.map(of, names):
            yield from found


def _evenly(names: Sequence[str], count: int | None) -> Sequence[str]:
    """So many of the names, from the first to the last."""
    if not count or count >= len(names):
        return names
    return [names[index * len(names) // count] for index in range(count)]


def _progress(found: Sequence[Row]) -> str:
    bad = [f"{key} in {row.trap or 'plain'} {row.format}" for row in found for key in row.said]
    broken = [f"{row.trap} {row.format}: {row.unreadable}" for row in found if row.unreadable]
    failed = sum(bool(row.failure) for row in found)
    return f"{len(found)} files, {failed} failed; {'; '.join(bad + broken) or 'quiet'}"


if __name__ == "__main__":
    main()
