"""Path patterns as configuration files write them, relative to the folder of the file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath, PureWindowsPath

WILD = frozenset("*?[")


def matches(patterns: Iterable[str], folder: Path, path: Path) -> bool:
    """Whether a pattern means a path itself or a folder above it; nothing outside the folder."""
    parts = _below(folder, path)
    return parts is not None and any(_starts_with(parts, _parts(each)) for each in patterns)


def is_file(pattern: str, folder: Path) -> bool:
    """Whether a pattern means one file, and nothing else."""
    return WILD.isdisjoint(pattern) and os.path.isfile(folder / pattern)  # noqa: PTH113 (may raise)


def leads_out(pattern: str) -> bool:
    """Whether a pattern means nothing below the folder of its file."""
    return ".." in _parts(pattern) or bool(PureWindowsPath(pattern).anchor)


def real(path: Path) -> Path:
    """Where a file really lies; a link that is itself the file keeps its name."""
    return Path(os.path.realpath(path.parent)) / path.name


def _below(folder: Path, path: Path) -> tuple[str, ...] | None:
    base, found = Path(os.path.realpath(folder)), real(path)
    return found.relative_to(base).parts if found.is_relative_to(base) else None


def _parts(pattern: str) -> tuple[str, ...]:
    return PurePosixPath(pattern.replace("\\", "/")).parts


def _starts_with(parts: Sequence[str], glob: Sequence[str]) -> bool:
    """Whether a pattern matches the first parts of a path; ``**`` stands for any number."""
    reached = {0}
    for wanted in glob:
        if wanted == "**":
            reached = set(range(min(reached), len(parts) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(parts) and fnmatch(parts[at], wanted)}
        if not reached:
            return False
    return True
