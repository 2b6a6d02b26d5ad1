"""Feeds bncheck with damaged and hostile models of every format.

    python tests/fuzz/run.py [--inputs 100000] [--seed 1] [--formats onnx ...] [--keep FOLDER]

Each format has a process of its own, with limited memory. Mutants that reach code that none before
reached are kept and changed further. What must hold of every input: it is read, or refused with
UnreadableModel in one line; all rules can judge what is read; no input takes over 2 s of the
processor or makes the process over 200 MiB large. Inputs for which it does not hold are kept,
and the exit code is 1. It needs torch, onnx, onnxruntime and safetensors, and runs best on Linux,
which alone tells and limits the memory of one process.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from campaign import Failure, Tally
from seed import Seed
from seeds import all_seeds
from workers import Share, run_apart

HEADS = ("format", "inputs", "read", "slowest", "memory", "kept", "lines", "failures")


def main() -> int:
    """Run, print a line for each format, keep what failed."""
    asked = _arguments()
    formats: dict[str, list[Seed]] = {}
    for seed in all_seeds():
        if not asked.formats or seed.format in asked.formats:
            formats.setdefault(seed.format, []).append(seed)
    print("  ".join(f"{head:>11}" for head in HEADS))
    began, tallies = time.monotonic(), []
    for name, seeds in formats.items():
        tallies.append(_one_format(name, seeds, asked.inputs // len(formats), asked))
        print(_line(name, tallies[-1]), flush=True)
    inputs, failures = sum(t.inputs for t in tallies), sum(len(t.failures) for t in tallies)
    print(f"{inputs} inputs in {time.monotonic() - began:.0f} s, {failures} failures")
    return bool(failures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="of all formats together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--formats", nargs="+", default=())
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), metavar="FOLDER")
    return parser.parse_args()


def _one_format(name: str, seeds: list[Seed], inputs: int, asked: argparse.Namespace) -> Tally:
    with tempfile.TemporaryDirectory() as folder:
        share = Share(seeds, inputs, f"{asked.seed} {name}", Path(folder))
        tally = run_apart(share)
    for index, failure in enumerate(tally.failures):
        _keep(asked.keep / f"{name}-{asked.seed}-{index}", failure)
    return tally


def _keep(folder: Path, failure: Failure) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "files").mkdir(parents=True)
    failure.seed.write(folder / "files")
    (folder / "why.txt").write_text(
        f"{failure.seed.main}\n{failure.why}", "utf-8", "backslashreplace"
    )
    print(f"{folder}: {failure.place}", file=sys.stderr)


def _line(name: str, tally: Tally) -> str:
    share = f"{100 * tally.read / max(tally.inputs, 1):.0f} %"
    numbers = (f"{tally.slowest:.2f} s", f"{tally.most_memory:.0f} MiB", tally.corpus, tally.lines)
    columns = (name, tally.inputs, share, *numbers, len(tally.failures))
    return "  ".join(f"{column:>11}" for column in columns)


if __name__ == "__main__":
    sys.exit(main())
