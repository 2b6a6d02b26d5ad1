"""Everything that bncheck raises on purpose; all of it derives from BncheckError."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


class BncheckError(Exception):
    """The base of all errors that a caller may want to catch."""


class UnreadableModel(BncheckError):
    """A file (or live object) that cannot be read as a model; the reason is one line to act on.

    ``path`` is the file where a caller gave one.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class NotAModel(UnreadableModel):
    """Something sound that is no model: an image, an optimizer state. Skipped inside folders."""


class ConfigurationError(BncheckError):
    """Options or a configuration file that cannot be used."""


@contextmanager
def naming(target: object) -> Iterator[None]:
    """Let an UnreadableModel say which file it is about, where the target is a path."""
    try:
        yield
    except UnreadableModel as error:
        if isinstance(target, str | os.PathLike):
            error.path = os.fsdecode(target)
        raise


class UnhealthyModel(BncheckError):
    """Raised by Report.raise_for when there are findings at or above the level."""


class CannotFold(BncheckError):
    """A fold that is not possible, or that was not exact enough; nothing was written."""
