"""What is compared, and what is known of it."""

from __future__ import annotations

from typing import NamedTuple

ONE, TWO, EACH = "one job", "two jobs", "a process for each file"


class Measured(NamedTuple):
    """What a way of checking so many files costs; ``resident``: bytes of its largest process."""

    files: int
    way: str
    seconds: float
    resident: int
