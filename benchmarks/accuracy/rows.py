"""What one file came to, and where that is kept between runs."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One file: of which network, with which trap, in which format, and what was said of it.

    ``failure``: why the exporter made no file. ``unreadable``: why bncheck could not read it.
    ``accuracy``: of the network, where it was trained. The rest is a judge.Verdict.
    """

    part: str
    network: str
    trap: str
    format: str
    failure: str = ""
    unreadable: str = ""
    found: dict[str, int] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    assessed: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    accuracy: float | None = None

    @property
    def is_checked(self) -> bool:
        """Whether there was a file that could be read."""
        return not self.failure and not self.unreadable


def kept(folder: Path, part: str, name: str) -> list[Row] | None:
    """The rows of a network that an earlier run has left; None without any."""
    path = _path(folder, part, name)
    return list(_read(path)) if path.exists() else None


def made(folder: Path, part: str, name: str, limit: int) -> list[Row]:
    """The rows of a network, made by work.py in a process of its own, and kept.

    A process that takes more than ``limit`` seconds, or breaks, leaves the rows that it made.
    """
    path = _path(folder, part, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    failure = _run(unfinished, part, name, limit)
    found = list(_read(unfinished))
    if failure:
        found.append(Row(part, name, "", "process", failure=failure))
    unfinished.write_text("".join(map(line, found)), "utf-8")
    unfinished.replace(path)
    return found


def line(row: Row) -> str:
    """As it is kept."""
    return json.dumps(asdict(row)) + "\n"


def _path(folder: Path, part: str, name: str) -> Path:
    return folder / part / f"{name}.jsonl"


def _read(path: Path) -> Iterator[Row]:
    """A line that was cut off is no row."""
    for each in path.read_text("utf-8").splitlines(keepends=True):
        if each.endswith("\n"):
            yield Row(**json.loads(each))


def _run(path: Path, part: str, name: str, limit: int) -> str:
    """Let work.py write rows; returns what went wrong."""
    from benchmarks.accuracy.work import into

    path.write_bytes(b"")
    process = _context().Process(target=into, args=(path, part, name))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return f"took over {limit} s"
    return f"exit code {process.exitcode}" if process.exitcode else ""


@cache
def _context() -> ForkServerContext:
    """Processes that have imported PyTorch and its exporters already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.accuracy.exporters"])
    return context
