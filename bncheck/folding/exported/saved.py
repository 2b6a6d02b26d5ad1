"""Tensors that torch.save wrote into one entry of an archive, as they change."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from bncheck.errors import CannotFold
from bncheck.folding.archives import saved
from bncheck.folding.archives.tensors import Content
from bncheck.folding.archives.zipped import Part, Streamed, size_of, written
from bncheck.readers.exported.weights import EntrySource
from bncheck.readers.torch.pickle_values import Dict, Instance
from bncheck.readers.ziparchive import ZipArchive


class Saved:
    """An entry that torch.save wrote: a zip archive in the archive, of a pickle and storages."""

    def __init__(self, archive: ZipArchive, entry: str) -> None:
        self._entry = entry
        self._held: saved.SavedTensors | None = None
        self.names: set[str] = set()
        if archive.entries[entry].size:
            self._open(ZipArchive(EntrySource(archive, entry)))

    def _open(self, archive: ZipArchive) -> None:
        value = saved.load(archive)
        if isinstance(value, Dict | Instance):
            self._held = saved.SavedTensors(archive, value, value)
            self.names = self._held.names

    def put(self, name: str, content: Content, like: str) -> None:
        """See Store."""
        if self._held is None:
            raise CannotFold(f"it has no tensors in {self._entry!r}, beside which to put others")
        self._held.put(name, content)

    def drop(self, name: str) -> None:
        """See Store."""
        if self._held is not None:
            self._held.drop(name)

    def changes(self) -> Mapping[str, Part | None]:
        """See Store."""
        if self._held is None or not self._held.is_changed:
            return {}
        parts = self._held.parts()
        return {self._entry: Streamed(self._entry, size_of(parts), partial(written, parts))}
