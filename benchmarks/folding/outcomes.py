"""What each tool made of each network, and what that is worth."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import Command, Cost, ProcessFailed, environment, module, run

WRONG = 1e-2  # of the output's rms; rounding alone stays far below
PATIENCE = 900  # seconds for one tool and one network


@dataclass(frozen=True, slots=True)
class Quality:
    """``error`` is the rms error against float64, relative to the output."""

    batch_norms: int
    nodes: int
    error: float

    @property
    def is_wrong(self) -> bool:
        """Whether the output is not the network's."""
        return not self.error < WRONG


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tool made of one network, at which cost; the reason where it failed.

    ``cpu`` is in seconds; ``resident`` the peak in bytes, where a process folded and did no more.
    """

    quality: Quality | None
    cpu: float = float("nan")
    resident: int | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One network: as it was, and folded by each tool."""

    name: str
    before: Quality
    outcomes: Mapping[str, Outcome]

    def left(self, tool: str) -> int:
        """BatchNorms that stay; all of them where the tool failed."""
        quality = self.outcomes[tool].quality
        return self.before.batch_norms if quality is None else quality.batch_norms


def of_files(name: str, tools: Sequence[str]) -> Row:
    """An exported network, folded by the tools for files.

    Raises ProcessFailed where it cannot be exported.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, truth = Path(folder) / "model.onnx", Path(folder) / "truth.npz"
        printed("folding.export", name, source, truth)
        before = _judged(source, truth)
        return Row(name, before, {tool: _of_file(tool, source, truth) for tool in tools})


def of_modules(name: str, tools: Sequence[str]) -> Row:
    """A network folded as a module. Raises ProcessFailed where it does not run."""
    before = _figures("as it was", name)[0]
    return Row(name, before, {tool: _of_module(tool, name) for tool in tools})


def _of_file(tool: str, source: Path, truth: Path) -> Outcome:
    target = source.with_name(f"{tool.replace(' ', '-')}.onnx")
    try:
        cost: Cost = run(Command(module("folding.tools", tool, source, target)), source.parent)
        return Outcome(_judged(target, truth), cost.cpu, cost.resident)
    except ProcessFailed as error:
        return Outcome(None, failure=str(error))


def _of_module(tool: str, name: str) -> Outcome:
    try:
        return Outcome(*_figures(tool, name))
    except ProcessFailed as error:
        return Outcome(None, failure=str(error))


def _figures(tool: str, name: str) -> tuple[Quality, float]:
    found = figures_of(printed("folding.torch_tools", tool, name))
    seconds = found.pop("seconds")
    return Quality(**found), seconds


def _judged(path: Path, truth: Path) -> Quality:
    return Quality(**figures_of(printed("folding.judge", path, truth)))


def printed(name: str, *words: object) -> Iterator[str]:
    """What a module of the benchmarks printed, from the last line on. Raises ProcessFailed."""
    try:
        done = subprocess.run(
            module(name, *words),
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise ProcessFailed(f"takes more than {PATIENCE} s") from None
    if done.returncode:
        raise ProcessFailed(next(iter(done.stderr.strip().splitlines()[-1:]), "failed"))
    return reversed(done.stdout.splitlines())


def figures_of(lines: Iterator[str]) -> dict[str, Any]:
    """The JSON on the last line of what was printed."""
    figures: dict[str, Any] = json.loads(next(lines))
    return figures
