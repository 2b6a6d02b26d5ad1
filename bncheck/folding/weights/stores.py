"""Files of tensors by name, as they change; all else in them stays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from math import prod
from typing import Any, Protocol

from bncheck.errors import CannotFold
from bncheck.folding.archives import saved
from bncheck.folding.archives.tensors import Content, inside
from bncheck.folding.archives.zipped import written
from bncheck.readers import safetensors
from bncheck.readers.source import FileSource
from bncheck.readers.torch import checkpoint, zipped
from bncheck.readers.torch.pickle_values import Dict, Instance, Value, mapping
from bncheck.readers.torch.storage import Budget
from bncheck.readers.torch.values import parameters
from bncheck.readers.ziparchive import ZipArchive
from bncheck.tensor import Tensor

AT_ONCE = 2**20  # bytes
ALIGNMENT = 8
CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}


class WeightsFile(Protocol):
    """A file of tensors."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """What it holds, by name."""

    def put(self, name: str, content: Content) -> None:
        """Give a name a new tensor."""

    def drop(self, name: str) -> None:
        """Forget a tensor."""

    def written(self) -> Iterator[bytes]:
        """All bytes of the changed file."""


class Checkpoint:
    """The state_dict at a path of keys (None: the whole) in what torch.save wrote."""

    def __init__(self, source: FileSource, key: str | None) -> None:
        archive = ZipArchive(source)
        root = zipped.root_of(archive)
        value = saved.load(archive)
        order = zipped.byteorder(archive, root)
        storages = zipped.ZipStorages(archive, root, order, Budget())
        before = [(each, each.args) for each in inside([value]) if isinstance(each, Instance)]
        held = _member(checkpoint.find_members(value, storages), key)
        found = parameters(mapping(held) or {}, storages)
        for each, arguments in before:  # which readers use up
            each.args = arguments
        self.tensors = {
            name: each.tensor
            for name, each in found.items()
            if each is not None and isinstance(each.tensor, Tensor)
        }
        self._saved = saved.SavedTensors(archive, value, held)

    def put(self, name: str, content: Content) -> None:
        """See WeightsFile."""
        self._saved.put(name, content)

    def drop(self, name: str) -> None:
        """See WeightsFile."""
        self._saved.drop(name)

    def written(self) -> Iterator[bytes]:
        """See WeightsFile."""
        yield from written(self._saved.parts())


def _member(members: tuple[checkpoint.Member, ...], key: str | None) -> Dict | Instance:
    found: list[Value] = [each.value for each in members if key is None or each.key == key]
    assert found and isinstance(found[0], Dict | Instance)
    return found[0]


class Safetensors:
    """A file of safetensors: a header in JSON, then raw tensors."""

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self.tensors = safetensors.tensors(source)
        self._changed: dict[str, Content] = {}
        self._dropped: set[str] = set()

    def put(self, name: str, content: Content) -> None:
        """See WeightsFile."""
        self._changed[name] = content

    def drop(self, name: str) -> None:
        """See WeightsFile."""
        self._dropped.add(name)

    @cached_property
    def _header(self) -> dict[str, Any]:
        header: dict[str, Any] = json.loads(
            self._source.read(safetensors.LENGTH_BYTES, self._length)
        )
        return header

    @cached_property
    def _length(self) -> int:
        return int.from_bytes(self._source.read(0, safetensors.LENGTH_BYTES), "little")

    def written(self) -> Iterator[bytes]:
        """See WeightsFile."""
        header, at = {}, 0
        if "__metadata__" in self._header:
            header["__metadata__"] = self._header["__metadata__"]
        for name in self._names():
            size = self._size(name)
            header[name] = {**self._described(name), "data_offsets": [at, at + size]}
            at += size
        data = json.dumps(header, separators=(",", ":")).encode()
        data += b" " * (-len(data) % ALIGNMENT)
        yield len(data).to_bytes(safetensors.LENGTH_BYTES, "little")
        yield data
        for name in self._names():
            yield from self._content(name)

    def _names(self) -> list[str]:
        """Wide elements first, so that all of them are aligned, as the reference writes them."""
        kept = [name for name in self.tensors if name not in self._dropped]
        names = [*kept, *(name for name in self._changed if name not in self.tensors)]
        return sorted(names, key=lambda name: (-self._width(name), name))

    def _width(self, name: str) -> float:
        numel = prod(self._described(name)["shape"])
        return self._size(name) / numel if numel else 0.0

    def _described(self, name: str) -> dict[str, Any]:
        changed = self._changed.get(name)
        if changed is None:
            entry = self._header[name]
            return {"dtype": entry["dtype"], "shape": entry["shape"]}
        return {"dtype": CODES[changed.dtype], "shape": [*changed.shape]}

    def _size(self, name: str) -> int:
        if name in self._changed:
            return self._changed[name].size
        begin, end = self._header[name]["data_offsets"]
        return int(end) - int(begin)

    def _content(self, name: str) -> Iterator[bytes]:
        if name in self._changed:
            yield self._changed[name].make()
            return
        first = safetensors.LENGTH_BYTES + self._length
        begin, end = (first + offset for offset in self._header[name]["data_offsets"])
        for at in range(begin, end, AT_ONCE):
            yield self._source.read(at, min(AT_ONCE, end - at))


def open_weights(source: FileSource, form: str, key: str | None) -> WeightsFile:
    """Open a file of weights to be changed. Raises CannotFold for a format that is not written."""
    if form == "torch-zip":
        return Checkpoint(source, key)
    if form == "safetensors":
        return Safetensors(source)
    raise CannotFold(f"{source.path}: {form} is not written: load it and torch.save its weights")
