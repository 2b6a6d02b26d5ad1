"""Where bytes come from: ranges of one regular file, or of memory. Nothing is ever written.

Ranges are read with ``pread`` rather than mapped: a mapped file brings readahead, and a truncated
one kills the process.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Lock
from typing import Protocol

from bncheck.errors import UnreadableModel

MAX_SHOWN = 200  # characters of a name in a message


class Source(Protocol):
    """Random access to the bytes of a model."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes; raises UnreadableModel where they are not all there."""

    def sibling(self, name: str) -> Source | None:
        """Another file of the model's own folder; None where there is none.

        Raises UnreadableModel for a name that leads out of the folder.
        """


class BytesSource:
    """A model in memory; it has no folder, hence no siblings."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        """See Source.read."""
        _require_range(offset, length, self.size)
        return self._data[offset : offset + length]

    def sibling(self, name: str) -> Source | None:
        """See Source.sibling."""
        return None


class FileSource:
    """A regular file; the descriptor is closed with the last reference."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._descriptor = _open(path)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableModel("is not a regular file")
        self.size = status.st_size
        self._lock = Lock()

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """See Source.read."""
        _require_range(offset, length, self.size)
        parts = []
        while length:
            part = self._read_some(offset, length)
            if not part:
                raise UnreadableModel("shrank while it was read; check it again")
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def _read_some(self, offset: int, length: int) -> bytes:
        try:
            if hasattr(os, "pread"):
                return os.pread(self._descriptor, length, offset)
            with self._lock:  # Windows: a position that threads share
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                return os.read(self._descriptor, length)
        except OSError as error:
            raise UnreadableModel(f"cannot be read: {error.strerror}") from error

    def sibling(self, name: str) -> Source | None:
        """See Source.sibling."""
        if Path(name).is_absolute() or Path(name).drive or ".." in Path(name).parts:
            raise UnreadableModel(f"refers to {name[:MAX_SHOWN]!r}, outside its own folder")
        return self._within(self.path.absolute().parent, name)

    def above(self, name: str) -> Source | None:
        """A file of the folder above, for a model that is known to lie in a folder of its own."""
        return self._within(self.path.absolute().parent.parent, name)

    def _within(self, folder: Path, name: str) -> Source | None:
        candidate = folder / name
        try:
            real = Path(os.path.realpath(candidate))
            exists = real.exists()
        except (OSError, ValueError) as error:  # a name that is too long, or holds a NUL
            raise UnreadableModel("refers to a file that cannot be found") from error
        if not real.is_relative_to(os.path.realpath(folder)) and not self._is_hub_blob(real):
            raise UnreadableModel(
                f"refers to {name[:MAX_SHOWN]!r}, which links out of its own folder"
            )
        return FileSource(candidate) if exists else None

    def _is_hub_blob(self, real: Path) -> bool:
        # A hub cache links every file of a snapshot into one folder of blobs: there the model's
        # own folder is the one that the model itself really lies in.
        own = Path(os.path.realpath(self.path))
        return self.path.is_symlink() and real.parent == own.parent


def _open(path: Path) -> int:
    # O_NONBLOCK: opening a FIFO must not wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        return os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise UnreadableModel(str(reason).lower()) from error
    except ValueError as error:  # a NUL in the name
        raise UnreadableModel("has a name that no file can have") from error


def _require_range(offset: int, length: int, size: int) -> None:
    if offset < 0 or length < 0 or offset + length > size:
        raise UnreadableModel(
            f"ends at byte {size}, but says that it holds bytes {offset} to {offset + length}: "
            "truncated download, or damaged"
        )
