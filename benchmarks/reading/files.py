"""Every format at every size: bncheck and all that others look into the same file with."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Cost, environment, interleaved, module
from benchmarks.reading.contenders import FORMATS, Format, commands


@dataclass(frozen=True, slots=True)
class Measured:
    """A format at the size that was asked for, and what each process cost on such a file.

    Without costs where the format holds no files as large as that.
    """

    format: Format
    asked: int
    costs: dict[str, list[Cost]]


def measured(formats: Sequence[str], sizes: Sequence[int], runs: int) -> list[Measured]:
    """All figures. Raises ProcessFailed, or CalledProcessError where a file cannot be made."""
    return [each for name in formats for each in _of_format(name, sorted(sizes), runs)]


def _of_format(name: str, sizes: Sequence[int], runs: int) -> Iterator[Measured]:
    form = FORMATS[name]
    for size in sizes:
        costs: dict[str, list[Cost]] = {}
        if form.limit is None or size <= form.limit:
            print(f"{name}, {size:,} bytes", file=sys.stderr)
            with tempfile.TemporaryDirectory() as folder:
                costs = _costs(name, size, runs, Path(folder))
        yield Measured(form, size, costs)


def _costs(name: str, size: int, runs: int, folder: Path) -> dict[str, list[Cost]]:
    path = folder / FORMATS[name].file
    build("model_files", name, size, path)
    return interleaved(commands(FORMATS[name], path), runs, folder)


def build(maker: str, *words: object) -> None:
    """Let a process of its own make files, and wait until they are on the disk."""
    subprocess.run(module(f"reading.{maker}", *words), check=True, env=environment())
    subprocess.run(("sync",), check=False)
