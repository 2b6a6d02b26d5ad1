"""What a whole process costs: time, peak memory, bytes read."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

Command = Sequence[str]
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB elsewhere


class ProcessFailed(Exception):
    """A measured process did not exit with 0; its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One run of a process.

    ``resident`` is its peak in bytes. ``read`` counts the bytes that all its read calls returned,
    the interpreter's own start included and mapped pages not; None where the system keeps no count.
    """

    seconds: float
    resident: int
    read: int | None


def interleaved(commands: Mapping[str, Command], runs: int, folder: Path) -> dict[str, list[Cost]]:
    """The costs of each command, run in turns (A B A B) after one round of warming up."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            cost = run(command, folder)
            if turn:
                costs[name].append(cost)
    return costs


def run(command: Command, folder: Path) -> Cost:
    """Run a command in a folder. Raises ProcessFailed with the last line that it complained in."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        pid = _start(command, folder, errors)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        seconds = time.perf_counter() - start
        read = _bytes_read(pid)
        _, status, usage = os.wait4(pid, 0)
        if status:
            raise ProcessFailed(f"{' '.join(command[:3])} ...: {_last_line(errors)}")
    return Cost(seconds, usage.ru_maxrss * RSS_UNIT, read)


def own_peak() -> int:
    """The most bytes that this process held: Linux reports no less for the ones it starts."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def _start(command: Command, folder: Path, errors: IO[bytes]) -> int:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )
    process.returncode = 0  # it is waited for here, not by Popen
    return process.pid


def _environment() -> dict[str, str]:
    """Bytecode is cached, as it is for every installed package."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


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
