"""Folds real networks with bncheck and with the tools that people use, side by side.

    pip install -e ".[all]" -r benchmarks/requirements.txt
    python -m benchmarks.folding [NETWORK ...] [--parts ...] [--write]

For files, each network is exported by the TorchScript exporter with its BatchNorms kept, folded by
each tool in a process of its own, and judged against the network in float64; modules are folded as
they are. The part latency times models before and after. ``--cache`` keeps what was found,
network by network, so that a run that was stopped goes on from there. All take about an hour.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.folding import latency
from benchmarks.folding.latency import Timed
from benchmarks.folding.names import NAMES
from benchmarks.folding.outcomes import Row, of_files, of_modules
from benchmarks.folding.tools import installed
from benchmarks.processes import ProcessFailed

MODULE_TOOLS = (
    "bncheck.fold",
    "bncheck.fold, verify=False",
    "torch.fx fuse",
    "fuse_fx",
    "torch.jit.freeze",
)
PARTS = {"files": installed(), "modules": MODULE_TOOLS, "latency": ()}


def main() -> None:
    """Fold, print the tables, and write them where asked."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            part: list(_rows(part, asked, asked.cache or Path(folder))) for part in asked.parts
        }
    from benchmarks import tables  # only now, so that the measuring process stays small

    rendered = {name: text for part, rows in found.items() for name, text in _tables(part, rows)}
    for name, text in rendered.items():
        print(f"## {name}\n\n{text}\n")
    if asked.write:
        tables.write(rendered)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", default=list(NAMES))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep results, and use them")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    return parser.parse_args()


def _rows(part: str, asked: argparse.Namespace, cache: Path) -> Iterator[Any]:
    for name in asked.networks:
        kept = cache / f"{part}-{name}.pickle"
        if not kept.exists():
            try:
                row = _row(part, name)
            except ProcessFailed as error:
                print(f"{name}: left out: {error}", file=sys.stderr)
                continue
            cache.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(pickle.dumps(row))
            print(f"{part}: {name}", file=sys.stderr, flush=True)
        yield pickle.loads(kept.read_bytes())


def _row(part: str, name: str) -> Row | Timed:
    if part == "latency":
        return latency.of_network(name)
    tools = PARTS[part]
    return of_files(name, tools) if part == "files" else of_modules(name, tools)


def _tables(part: str, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    from benchmarks.folding import summary

    if part == "latency":
        yield "folding latency", summary.latencies(rows)
        return
    tools = PARTS[part]
    goals = summary.goals(rows, tools) if part == "files" else ""
    texts = summary.summary(rows, tools), goals, summary.failures(rows, tools)
    text = "\n\n".join(filter(None, texts))
    yield f"folding {part}", text
    yield f"folding {part} by network", summary.by_network(rows, tools)


if __name__ == "__main__":
    main()
