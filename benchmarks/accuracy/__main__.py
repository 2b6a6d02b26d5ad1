"""How often bncheck cries wolf, and what it misses: networks as the files people make of them.

    pip install -e ".[all]" -r benchmarks/requirements.txt
    python -m benchmarks.accuracy [--part PART ...] [--architectures N] [--cache DIR] [--write]

Each network is made, exported and checked in a process of its own. ``--cache`` keeps what came of
it, network by network: a run that was stopped goes on from there, what is to be measured anew is
deleted there, and ``--kept`` shows the tables of what is there. All parts take about two hours of
one core. It needs Linux or macOS.

Healthy networks are in the parts healthy, traps and trained, broken ones in broken, training and
peers. Tools that are neither beside this Python nor on the PATH are named as not installed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.accuracy import broken, rows
from benchmarks.accuracy.names import NAMES, TRAINED
from benchmarks.accuracy.rows import Row

PARTS = {"healthy": NAMES, "traps": NAMES, "trained": TRAINED}
PATIENCE = 600  # seconds for all files of one network


def main() -> None:
    """Check, print the tables, and write them where asked."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        cache = asked.cache or Path(folder)
        healthy = [part for part in asked.part if part in PARTS]
        found = [row for part in healthy for row in _rows(part, asked, cache)]
        ill = broken.render(asked.part, cache, asked.jobs, asked.kept, asked.write)
    from benchmarks import tables
    from benchmarks.accuracy import healthy_tables

    parts = (healthy_tables.render(found) if healthy else {}) | ill
    for name, text in parts.items():
        print(f"## {name}\n\n{text}\n")
    if asked.write:
        tables.write(parts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    every = [*PARTS, *broken.PARTS]
    parser.add_argument("--part", nargs="+", choices=every, default=every)
    parser.add_argument("--architectures", type=int, metavar="N", help="so many, of all kinds")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep results, and use them")
    parser.add_argument("--kept", action="store_true", help="only what is in the cache")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="networks at a time")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    return parser.parse_args()


def _rows(part: str, asked: argparse.Namespace, cache: Path) -> Iterator[Row]:
    def of(name: str) -> list[Row]:
        found = rows.kept(cache, part, name)
        if found is None and not asked.kept:
            found = rows.made(cache, part, name, PATIENCE)
            print(f"{part} {name}: {_progress(found)}", file=sys.stderr, flush=True)
        return found or []

    with ThreadPoolExecutor(asked.jobs) as pool:
        for found in pool.map(of, _mixed(PARTS[part], asked.architectures)):
            yield from found


def _mixed(names: Sequence[str], count: int | None) -> Sequence[str]:
    """So many of the names, from all kinds of networks; a run that is stopped has a fair share."""
    mixed = sorted(names, key=lambda name: zlib.crc32(name.encode()))
    return mixed[:count]


def _progress(found: Sequence[Row]) -> str:
    bad = [f"{key} in {row.trap or 'plain'} {row.format}" for row in found for key in row.said]
    broken = [f"{row.trap} {row.format}: {row.unreadable}" for row in found if row.unreadable]
    failed = sum(bool(row.failure) for row in found)
    return f"{len(found)} files, {failed} failed; {'; '.join(bad + broken) or 'quiet'}"


if __name__ == "__main__":
    main()
