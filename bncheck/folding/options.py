"""What a user decides about a fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[str], None]


def silent(message: str) -> None:
    """Progress that nobody wants to see."""


@dataclass(frozen=True, slots=True)
class Options:
    """``tolerance`` is an absolute error that stands in for the measured bound of outputs.

    ``inputs`` is an .npz with an array for each input of the model. ``trust`` lets torch load
    files, which may run code from them. ``arch`` names code that builds the module of a
    state_dict; ``key`` is which model of a file is meant.
    """

    verify: bool = True
    tolerance: float | None = None
    inputs: Path | None = None
    scale_only: bool = False
    dry_run: bool = False
    trust: bool = False
    arch: str | None = None
    key: str | None = None
