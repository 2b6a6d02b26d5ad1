"""How far a run is: one line on a terminal, and nothing anywhere else."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

DELAY = 0.5  # seconds after which it is worth a line
EVERY = 0.1
CLEAR = "\r\x1b[K"


class Progress:
    """A line on stderr, taken away before anything else is written."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._next = time.monotonic() + DELAY
        self._is_shown = False
        stream = sys.stderr
        self._is_wanted = total > 1 and stream is not None and stream.isatty()

    def show(self, done: int) -> None:
        """So many files are done."""
        if self._is_wanted and time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            self._is_shown = True
            self._write(f"\r{done} of {self._total} files")

    def hide(self) -> None:
        """Make room for something else."""
        if self._is_shown:
            self._is_shown = False
            self._write(CLEAR)

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()
