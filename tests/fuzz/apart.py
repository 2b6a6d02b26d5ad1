"""Reads one file in a process of its own, so that its time and memory can be told.

As a program: ``python apart.py FILE`` prints what came of it as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

SECONDS = 4.0  # of the processor, on a machine that is busy otherwise; 2 on an idle one
MEBIBYTES = 200


class Outcome(NamedTuple):
    """``said`` is "read", or why it was refused; seconds are of the processor."""

    said: str
    seconds: float
    mebibytes: float


def read_apart(path: Path) -> Outcome:
    """What comes of reading a file and looking at all of it; fails where the process does."""
    import bncheck

    environment = {**os.environ, "PYTHONPATH": str(Path(bncheck.__file__).parents[1])}
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return Outcome(*json.loads(done.stdout))


def require_cheap(path: Path) -> None:
    """Fail where a file takes more than it may."""
    said, seconds, mebibytes = read_apart(path)
    print(f"{path.name}: {said[:100]}, {seconds:.2f} s, {mebibytes:.0f} MiB")
    assert said.isprintable()
    assert seconds < SECONDS
    assert mebibytes < MEBIBYTES


def main() -> None:
    from judge import look_at_everything
    from memory import peak

    from bncheck.errors import UnreadableModel
    from bncheck.readers import read

    said, began = "read", time.process_time()
    try:
        for model in read(sys.argv[1]):
            look_at_everything(model)
    except UnreadableModel as error:
        said = error.reason
    print(json.dumps([said, time.process_time() - began, peak()]))


if __name__ == "__main__":
    main()
