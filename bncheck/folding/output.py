"""Files that are written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from bncheck.errors import CannotFold


def require_apart(source: Path, target: Path) -> None:
    """Raise CannotFold where a model would take its own place."""
    if target.exists() and source.exists() and target.samefile(source):
        raise CannotFold(f"{target} is the model itself: give another name with -o")


class Staging:
    """A folder beside a target, in which its files are complete before they take their places.

    A context manager: the folder goes in the end, with all that was not moved out of it. Raises
    CannotFold where something cannot be written.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._home = target.absolute().parent
        self._names: list[str] = []

    def __enter__(self) -> Staging:
        if self._target.is_dir():
            raise CannotFold(f"{self._target}: is a folder: give the name of a file")
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=".bncheck-", dir=self._home))
        except OSError as error:
            reason = str(error.strerror).lower()
            raise CannotFold(f"{self._target.parent}: cannot be written to: {reason}") from error
        return self

    def write(self, name: str, parts: Iterable[bytes]) -> Path:
        """Write a file that will be called ``name``; where it lies until then."""
        path = self.place(name)
        try:
            with path.open("xb") as file:
                file.writelines(parts)
        except OSError as error:
            raise _not_written(self._target.parent / name, error) from error
        return path

    def place(self, name: str) -> Path:
        """Where to write what will be called ``name``."""
        self._names.append(name)
        return self._folder / name

    def clear(self) -> None:
        """Forget what was written so far."""
        while self._names:
            (self._folder / self._names.pop()).unlink(missing_ok=True)

    def publish(self) -> None:
        """Move all files to their places, the first written last."""
        while self._names:
            name = self._names.pop()
            try:
                (self._folder / name).replace(self._home / name)
            except OSError as error:
                raise _not_written(self._target.parent / name, error) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _not_written(path: Path, error: OSError) -> CannotFold:
    return CannotFold(f"{path}: cannot be written: {str(error.strerror).lower()}")
