"""Which files a run looks at: what the user names, and what lies in the folders among it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bncheck.readers import folders

SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})


class Candidate(NamedTuple):
    """A file to look at, or a folder that is one model as a whole.

    ``named``: the user asked for it, so that it must be a model.

    ``problem`` says why it cannot even be opened; then ``path`` may be a pattern or a folder.
    """

    path: Path
    named: bool
    problem: str | None = None


def discover(arguments: Iterable[str]) -> Iterator[Candidate]:
    """The files that arguments mean, each real file once, in a stable order.

    An argument is a file, a folder (searched recursively; links to folders are not followed) or
    a glob. A file that is named counts as named, even where a folder before it holds it too.
    """
    found: dict[str, Candidate] = {}
    for candidate in (each for argument in arguments for each in _meant(argument)):
        key = _identity(candidate.path)
        first = found.setdefault(key, candidate)
        if candidate.named and not first.named:
            found[key] = first._replace(named=True)
    yield from found.values()


def _identity(path: Path) -> str:
    try:
        return os.path.normcase(os.path.realpath(path))
    except (OSError, ValueError):  # a loop of links; a NUL in the name
        return str(path)


def _meant(argument: str) -> Iterator[Candidate]:
    path = Path(argument)
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where a folder is closed to us)
        yield from _walk(path)
    elif os.path.lexists(path) or not any(mark in argument for mark in "*?["):
        yield Candidate(path, named=True)
    else:
        yield from _expanded(argument)


def _expanded(pattern: str) -> Iterator[Candidate]:
    from glob import glob

    matches = sorted(glob(pattern, recursive=True))  # noqa: PTH207 (may be absolute)
    if not matches:
        yield Candidate(Path(pattern), named=True, problem="matches no file")
    folders = [match for match in matches if os.path.isdir(match)]  # noqa: PTH112
    for match in matches:
        # What "models/**" matches holds both folders and the files in them.
        if match not in folders:
            yield Candidate(Path(match), named=True)
    for folder in folders:
        yield from _walk(Path(folder))


def _walk(root: Path) -> Iterator[Candidate]:
    closed: list[OSError] = []
    shards: set[Path] = set()  # parts of models for which their index stands
    for folder, subfolders, names in os.walk(root, onerror=closed.append):
        subfolders[:] = sorted(name for name in subfolders if _is_searched(name, subfolders))
        shards.update(folders.shard_paths(Path(folder), names))
        if folders.is_distributed(names):
            yield Candidate(Path(folder), named=False)
        for path in (Path(folder, name) for name in sorted(folders.own_files(names))):
            if path not in shards:
                yield from _candidate(path)
    for error in closed:
        reason = f"cannot be searched: {str(error.strerror).lower()}"
        yield Candidate(Path(error.filename), named=False, problem=reason)


def _is_searched(name: str, siblings: list[str]) -> bool:
    # A hub cache keeps each file as a nameless blob, to which the snapshots beside it link.
    blobs = name == "blobs" and "snapshots" in siblings
    return not (name.startswith(".") or name in SKIPPED_FOLDERS or blobs)


def _candidate(path: Path) -> Iterator[Candidate]:
    """A regular file, or a link that leads nowhere; sockets and the like are passed over."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            yield Candidate(path, named=False)
    except FileNotFoundError:
        if path.is_symlink() and not path.name.startswith("."):
            yield Candidate(path, named=False, problem="links to a file that does not exist")
    except OSError as error:
        reason = f"cannot be opened: {str(error.strerror).lower()}"
        yield Candidate(path, named=False, problem=reason)
