"""What checks say, and what the engine makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bncheck.facts import Unknown


class Level(StrEnum):
    """How bad a finding is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for info, 1 for warning, 2 for error."""
        return _RANKS[self]


_RANKS = {Level.INFO: 0, Level.WARNING: 1, Level.ERROR: 2}


@dataclass(frozen=True, slots=True)
class Observation:
    """What a check saw. ``level`` and ``fix`` stand in for the rule's own where given.

    ``evidence`` holds the numbers that the message rests on: JSON values, NaN and infinity allowed.
    """

    message: str
    evidence: Mapping[str, object] = field(default_factory=dict)
    level: Level | None = None
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """An observation under its rule, at its layer (None: the whole model), at its level.

    ``suppression`` says why a suppressed one does not count.
    """

    rule: str
    name: str
    level: Level
    layer: str | None
    message: str
    evidence: Mapping[str, object]
    fix: str
    suppressed: bool = False
    suppression: str = ""


@dataclass(frozen=True, slots=True)
class NotAssessed:
    """A rule that could not be judged, at one layer or (None) for the whole model."""

    rule: str
    layer: str | None
    unknown: Unknown

    @property
    def reason(self) -> str:
        """One sentence: what is missing, why, and what to give instead."""
        return self.unknown.reason
