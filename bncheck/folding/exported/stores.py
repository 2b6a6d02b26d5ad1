"""The tensors of an archive as they change; here those of a table of raw storages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from bncheck.folding.archives.tensors import Content
from bncheck.folding.archives.zipped import Made, Part
from bncheck.readers.exported.document import MOST_BYTES
from bncheck.readers.exported.layout import Held
from bncheck.readers.exported.schema import SCALAR_TYPES
from bncheck.readers.ziparchive import ZipArchive

CODES = {dtype: code for code, dtype in SCALAR_TYPES.items()}
Json = Any


class Store(Protocol):
    """The tensors of one place by qualified name, and the entries of the archive that hold them."""

    names: set[str]

    def put(self, name: str, content: Content, like: str) -> None:
        """Give a name a new tensor; one that is new is a parameter, on the device of ``like``."""

    def drop(self, name: str) -> None:
        """Forget a tensor."""

    def changes(self) -> Mapping[str, Part | None]:
        """What comes in place of entries (None: nothing), and entries that are new, by name."""


class Table:
    """A table in JSON beside raw storages; several tensors may lie in one of these."""

    def __init__(self, archive: ZipArchive, held: Held) -> None:
        self._held = held
        self._folder = held.folder or ""
        self._document = json.loads(archive.read(held.entry, MOST_BYTES))
        self._config: dict[str, Json] = self._document["config"]
        self._before = {entry["path_name"] for entry in self._config.values()}
        self._taken = {*self._before, *(n.removeprefix(self._folder) for n in archive.entries)}
        self._made: dict[str, Content] = {}
        self._is_changed = False
        self.names = {*self._config}

    def put(self, name: str, content: Content, like: str) -> None:
        """See Store."""
        entry = self._config.get(name)
        template = entry or self._config.get(like) or {}
        path = self._own_path(entry)
        meta = {**(template.get("tensor_meta") or {}), **layout(content)}
        meta.setdefault("device", {"type": "cpu", "index": None})
        if entry is None:
            meta["requires_grad"] = content.grad
        self._config[name] = {
            **template,
            "path_name": path,
            "is_param": True if entry is None else entry["is_param"],
            "use_pickle": False,
            "tensor_meta": meta,
        }
        self._made[path] = content
        self._is_changed = True
        self.names.add(name)

    def _own_path(self, entry: Json) -> str:
        """The storage of a tensor where it has one to itself, else a new one."""
        if entry is None:
            return self._new_path("weight_0")
        path: str = entry["path_name"]
        sharing = sum(each["path_name"] == path for each in self._config.values())
        return path if sharing == 1 else self._new_path(path)

    def _new_path(self, like: str) -> str:
        stem, number = like.rpartition("_")[0] or like, 0
        while f"{stem}_{number}" in self._taken:
            number += 1
        self._taken.add(f"{stem}_{number}")
        return f"{stem}_{number}"

    def drop(self, name: str) -> None:
        """See Store."""
        if self._config.pop(name, None) is not None:
            self._is_changed = True
            self.names.discard(name)

    def changes(self) -> Mapping[str, Part | None]:
        """See Store."""
        if not self._is_changed:
            return {}
        after = {entry["path_name"] for entry in self._config.values()}
        found: dict[str, Part | None] = {self._folder + path: None for path in self._before - after}
        for path, content in self._made.items():
            if path in after:
                name = self._folder + path
                found[name] = Made(name, content.size, content.make)
        found[self._held.entry] = text(self._held.entry, self._document)
        return found


def text(name: str, document: Json) -> Made:
    """An entry of JSON."""
    data = json.dumps(document).encode()
    return Made(name, len(data), lambda: data)


def layout(content: Content) -> dict[str, Json]:
    """What a tensor's meta data say of how it lies in its storage."""
    return {
        "dtype": CODES[content.dtype],
        "sizes": [{"as_int": n} for n in content.shape],
        "strides": [{"as_int": n} for n in content.strides],
        "storage_offset": {"as_int": 0},
        "layout": 7,  # strided
    }
