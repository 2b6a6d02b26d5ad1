"""Files that are written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from bncheck.errors import CannotFold


class Staging:
    """A folder beside a target, in which its files are complete before they take their places.

    A context manager: the folder goes in the end, with all that was not moved out of it. Raises
    CannotFold where something cannot be written.
    """

    def __init__(self, target: Path) -> None:
        self._home = target.absolute().parent
        self._names: list[str] = []

    def __enter__(self) -> Staging:
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=".bncheck-", dir=self._home))
        except OSError as error:
            raise CannotFold(f"{self._home}: cannot be written to: {error.strerror}") from error
        return self

    def write(self, name: str, parts: Iterable[bytes]) -> Path:
        """Write a file that will be called ``name``; where it lies until then."""
        path = self._folder / name
        self._names.append(name)
        try:
            with path.open("xb") as file:
                file.writelines(parts)
        except OSError as error:
            raise CannotFold(f"{self._home / name}: cannot be written: {error.strerror}") from error
        return path

    def clear(self) -> None:
        """Forget what was written so far."""
        while self._names:
            (self._folder / self._names.pop()).unlink(missing_ok=True)

    def publish(self) -> None:
        """Move all files to their places, the first written last."""
        while self._names:
            name = self._names.pop()
            (self._folder / name).replace(self._home / name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
