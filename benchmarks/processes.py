"""What a whole process costs: time, peak memory, bytes read."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB elsewhere
FEWEST = 3  # runs, however slow a process is
PATIENCE = 12.0  # seconds that all runs of one process may take before the fewest are enough


class ProcessFailed(Exception):
    """A measured process did not exit as it should; its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to start, and the exit codes that mean that it did its work."""

    words: Sequence[str]
    exits: Collection[int] = (0,)


@dataclass(frozen=True, slots=True)
class Cost:
    """One run of a process.

    ``resident`` is its peak in bytes. ``read`` counts the bytes that all its read calls returned,
    the interpreter's own start included and mapped pages not; None where the system keeps no count.
    """

    seconds: float
    resident: int
    read: int | None
    cpu: float


def interleaved(commands: Mapping[str, Command], runs: int, folder: Path) -> dict[str, list[Cost]]:
    """The costs of each command, run in turns (A B A B) after one round of warming up.

    A slow one stands aside after fewer runs than the others.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            if not _suffices(costs[name]):
                cost = run(command, folder)
                costs[name] += [cost] if turn else []
    return costs


def _suffices(costs: Sequence[Cost]) -> bool:
    return len(costs) >= FEWEST and sum(cost.seconds for cost in costs) > PATIENCE


def run(command: Command, folder: Path) -> Cost:
    """Run a command in a folder. Raises ProcessFailed with the last line that it complained in."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        pid = _start(command.words, folder, errors)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        seconds = time.perf_counter() - start
        read = _bytes_read(pid)
        _, status, usage = os.wait4(pid, 0)
        if os.waitstatus_to_exitcode(status) not in command.exits:
            raise ProcessFailed(f"{' '.join(command.words)[:200]} ...: {_last_line(errors)}")
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(seconds, usage.ru_maxrss * RSS_UNIT, read, cpu)


def own_peak() -> int:
    """The most bytes that this process held: Linux reports no less for the ones it starts."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def _start(words: Sequence[str], folder: Path, errors: IO[bytes]) -> int:
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )
    process.returncode = 0  # it is waited for here, not by Popen
    return process.pid


def environment() -> dict[str, str]:
    """Bytecode is cached, as it is for every installed package; these modules are found."""
    held = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return held | {"PYTHONPATH": str(ROOT)}


def module(name: str, *words: object) -> tuple[str, ...]:
    """The words that start a module of the benchmarks."""
    return (sys.executable, "-m", f"benchmarks.{name}", *map(str, words))


def _bytes_read(pid: int) -> int | None:
    """What Linux has counted for a process that has ended and is not yet waited for."""
    try:
        counters = Path(f"/proc/{pid}/io").read_text("ascii")
    except OSError:
        return None
    return int(dict(line.split(": ") for line in counters.splitlines())["rchar"])


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "failed in silence"
