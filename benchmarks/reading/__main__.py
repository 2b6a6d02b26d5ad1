"""Times bncheck against all that people look into the same model with.

    pip install -e . -r benchmarks/requirements.txt
    python -m benchmarks.reading [--write] [--quick] [--parts ...] [--formats ...] [--sizes ...]

Whole processes, side by side: on every file all contenders run in turns, after one round that warms
up caches; the figures are medians. The files lie in a temporary folder (see TMPDIR), one format and
size at a time, and are removed. It needs Linux or macOS, and about twice the largest size as memory
and as disk.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.processes import ProcessFailed, environment, module, own_peak
from benchmarks.reading import files, tensors
from benchmarks.reading.contenders import FORMATS

UNITS = {"MB": 10**6, "GB": 10**9}
PARTS = ("files", "tensors", "rules", "live")
SCRIPTS = {"rules": "reading.judging", "live": "reading.live"}
SIZES, QUICK_SIZES = [10**8, 10**9, 4 * 10**9], [10**8]
COUNTS, QUICK_COUNTS = [1_000, 10_000, 100_000], [1_000, 10_000]
RUNS, QUICK_RUNS = 5, 3


def main() -> None:
    """Measure, print the tables, and write them where asked."""
    asked = _arguments()
    try:
        figures = dict(_figures(asked))
    except (ProcessFailed, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    floor = own_peak()
    from benchmarks import tables  # only now, so that the floor is low

    parts = {name: _rendered(name, held, asked, floor) for name, held in figures.items()}
    for name, text in parts.items():
        print(f"## {name}\n\n{text}\n")
    if asked.write:
        tables.write(parts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--sizes", nargs="+", type=_size, metavar="SIZE", help="100MB, 4GB, ...")
    parser.add_argument("--tensors", nargs="+", type=int, metavar="N", help="of the part tensors")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--quick", action="store_true", help="small files, few runs: 3 minutes")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    asked = parser.parse_args()
    asked.sizes = asked.sizes or (QUICK_SIZES if asked.quick else SIZES)
    asked.tensors = asked.tensors or (QUICK_COUNTS if asked.quick else COUNTS)
    asked.runs = asked.runs or (QUICK_RUNS if asked.quick else RUNS)
    return asked


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+)(MB|GB)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 100MB or 1GB")
    return int(match[1]) * UNITS[match[2]]


def _figures(asked: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    for part in asked.parts:
        if part == "files":
            yield part, files.measured(asked.formats, asked.sizes, asked.runs)
        elif part == "tensors":
            yield part, tensors.measured(asked.tensors, asked.runs)
        else:
            yield part, _of_process(part, asked.runs)


def _of_process(part: str, runs: int) -> list[dict[str, Any]]:
    print(part, file=sys.stderr)
    done = subprocess.run(
        module(SCRIPTS[part], runs),
        check=True,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _rendered(part: str, figures: Any, asked: argparse.Namespace, floor: int) -> str:
    from benchmarks.reading import file_tables, judging, live, process_tables, tensor_tables

    if part == "files":
        return file_tables.render(figures, asked.runs, floor)
    if part == "tensors":
        return tensor_tables.render(figures)
    if part == "rules":
        return process_tables.rules([judging.Measured(**each) for each in figures])
    return process_tables.live([live.Measured(**each) for each in figures])


if __name__ == "__main__":
    main()
