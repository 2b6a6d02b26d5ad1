"""Which lines of bncheck run, so that a mutant that reaches new ones can be kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import bncheck

OURS = str(Path(bncheck.__file__).parent)

Line = tuple[CodeType, int]


class Coverage:
    """All lines that ran so far while it was recording."""

    def __init__(self) -> None:
        self.lines: set[Line] = set()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record within; slows bncheck down about eightfold."""
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename.startswith(OURS) else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        self.lines.add((frame.f_code, frame.f_lineno))
        return self._line
