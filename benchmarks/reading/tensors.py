"""Files of very many tensors: what each further one costs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Command, Cost, interleaved
from benchmarks.reading.contenders import BNCHECK, FLOOR, KEYS, LOAD, ONNX, Rival, bncheck
from benchmarks.reading.files import build

KINDS = {"batch-norm": "BatchNorm in 5 of 6", "experts": "a norm in 1 of 100"}
FORMATS = {
    "state-dict": ("state_dict", "model.pth", Rival("torch.load", LOAD.format(True, True))),
    "safetensors": ("safetensors", "model.safetensors", Rival("safe_open", KEYS.format("np"))),
    "onnx": ("ONNX", "model.onnx", Rival("onnx.load", ONNX.format(False))),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Files of one kind and format, by the number of their tensors: what each process cost."""

    title: str
    costs: dict[int, dict[str, list[Cost]]]


def measured(counts: Sequence[int], runs: int) -> list[Measured]:
    """All figures. Raises ProcessFailed, or CalledProcessError where a file cannot be made."""
    return list(_measured(sorted(counts), runs))


def _measured(counts: Sequence[int], runs: int) -> Iterator[Measured]:
    for kind, described in KINDS.items():
        for name, (title, file, rival) in FORMATS.items():
            costs = {}
            for count in counts:
                print(f"{name}, {count:,} tensors, {described}", file=sys.stderr)
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / file
                    build("many_tensors", kind, name, count, path)
                    costs[count] = interleaved(_commands(rival, path), runs, Path(folder))
            yield Measured(f"{title}, {described}", costs)


def _commands(rival: Rival, path: Path) -> dict[str, Command]:
    floor = Command((sys.executable, "-c", "import click"))
    return {BNCHECK: bncheck(path), FLOOR: floor, rival.name: rival.on(path)}
