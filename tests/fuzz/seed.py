"""A seed: the files of one sound, small model, which mutants are made of."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Seed:
    """Files by their path in a folder; ``main`` is what a user would name, "" the folder itself."""

    format: str
    name: str
    files: Mapping[str, bytes] = field(repr=False)
    main: str = "model"

    def write(self, folder: Path) -> Path:
        """Write the files, over those that are there; gives the path to read."""
        for name, data in self.files.items():
            path = folder / name
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True)
            path.write_bytes(data)
        return folder / self.main


def in_folder(write: Callable[[Path], object]) -> dict[str, bytes]:
    """The files that something writes into an empty folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def as_file(write: Callable[[Path], object]) -> dict[str, bytes]:
    """The same for what writes one file, which is called "model"."""
    return in_folder(lambda folder: write(folder / "model"))
