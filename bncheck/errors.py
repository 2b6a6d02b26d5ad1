"""Everything that bncheck raises on purpose; all of it derives from BncheckError."""

from __future__ import annotations


class BncheckError(Exception):
    """The base of all errors that a caller may want to catch."""


class UnreadableModel(BncheckError):
    """A file (or live object) that cannot be read as a model; the reason is one line to act on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotAModel(UnreadableModel):
    """Something sound that is no model: an image, an optimizer state. Skipped inside folders."""


class ConfigurationError(BncheckError):
    """Options or a configuration file that cannot be used."""


class UnhealthyModel(BncheckError):
    """Raised by Report.raise_for when there are findings at or above the level."""


class CannotFold(BncheckError):
    """A fold that is not possible, or that was not exact enough; nothing was written."""
