"""What one file came to, and where that is kept between runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.processes import environment, module


@dataclass(frozen=True, slots=True)
class Row:
    """One file: of which network, with which trap, in which format, and what was said of it.

    ``failure``: why the exporter made no file. ``unreadable``: why bncheck could not read it. The
    rest is a judge.Verdict.
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

    @property
    def is_checked(self) -> bool:
        """Whether there was a file that could be read."""
        return not self.failure and not self.unreadable


def of(cache: Path, part: str, name: str, limit: int) -> Iterator[Row]:
    """The rows of a network: from the cache, or made by work.py in a process of its own.

    A process that takes more than ``limit`` seconds, or breaks, leaves the rows that it made.
    """
    kept = cache / part / f"{name}.jsonl"
    if not kept.exists():
        text = _made(part, name, limit)
        kept.parent.mkdir(parents=True, exist_ok=True)
        part_file = kept.with_suffix(".part")
        part_file.write_text(text, "utf-8")
        part_file.replace(kept)
    for line in kept.read_text("utf-8").splitlines():
        yield Row(**json.loads(line))


def _made(part: str, name: str, limit: int) -> str:
    command = module("accuracy.work", part, name)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment(), timeout=limit
        )
        printed, failure = done.stdout, done.stderr.strip().rpartition("\n")[2]
        if not done.returncode:
            return printed
    except subprocess.TimeoutExpired as error:
        printed = (error.stdout or b"").decode()
        failure = f"took over {limit} s"
    whole = printed[: printed.rfind("\n") + 1]
    return whole + json.dumps(asdict(Row(part, name, "", "process", failure=failure))) + "\n"
