"""PyTorch's format of before 1.6: pickles one after the other, then the storages.

The pickles are a magic number, a protocol number, facts of the machine, the object, and the keys
of the storages; then for each key its number of elements (int64) and the elements. See
torch/serialization.py, _legacy_save.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bncheck.errors import UnreadableModel
from bncheck.model import Model
from bncheck.readers import checkpoint
from bncheck.readers.pickle_machine import MAX_PICKLE, Loaded, PersistentId, Value, load
from bncheck.readers.source import Source
from bncheck.readers.torch_values import mapping, place
from bncheck.tensor import ByteOrder, itemsize

MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
PROTOCOL = 1001
FIRST_READ = 2**20  # bytes; doubled until the pickles are whole
COUNT_BYTES = 8


@dataclass(frozen=True, slots=True)
class LegacyStorages:
    """The storages behind the pickles; see Storages."""

    source: Source
    byteorder: ByteOrder
    ranges: Mapping[str, tuple[int, int]]  # key -> offset and length in the file, in bytes

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Bytes of one storage."""
        begin, size = self.ranges.get(key, (0, -1))
        if offset < 0 or offset + length > size:
            raise UnreadableModel(f"storage {key!r} is shorter than the tensor that lies in it")
        return self.source.read(begin + offset, length)


def read(source: Source) -> tuple[Model, ...]:
    """The models of a file."""
    _, protocol, machine, pickled, keys = _pickles(source)
    if protocol.value != PROTOCOL:
        raise UnreadableModel(f"has format version {protocol.value!r}; {PROTOCOL} is known")
    little = (mapping(machine.value) or {}).get("little_endian", True)
    byteorder: ByteOrder = "big" if little is False else "little"
    ranges = _ranges(source, byteorder, keys, _widths(pickled.references))
    storages = LegacyStorages(source, byteorder, ranges)
    return checkpoint.models(pickled.value, storages, "torch-legacy", source)


def _pickles(source: Source) -> list[Loaded]:
    """The five pickles. How long they are together is known only once they are read."""
    length = min(FIRST_READ, source.size)
    while True:
        data = source.read(0, length)
        try:
            return _five(data)
        except UnreadableModel:
            if length == min(source.size, MAX_PICKLE):
                raise
        length = min(2 * length, source.size, MAX_PICKLE)


def _five(data: bytes) -> list[Loaded]:
    pickles: list[Loaded] = []
    end = 0
    for _ in range(5):
        pickles.append(load(data, end))
        end = pickles[-1].end
    return pickles


def _widths(references: list[PersistentId]) -> dict[str, int]:
    """Bytes per element of each storage."""
    storages = [place(r) for r in references if not _is_class(r.value)]
    return {storage.key: itemsize(storage.dtype) or 0 for storage in storages}


def _is_class(value: Value) -> bool:
    return isinstance(value, tuple) and value[:1] == ("module",)


def _ranges(
    source: Source, byteorder: ByteOrder, keys: Loaded, widths: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    if not isinstance(keys.value, list):
        raise UnreadableModel("names its storages in an unknown way")
    position = keys.end
    ranges: dict[str, tuple[int, int]] = {}
    for key in keys.value:
        width = widths.get(key) if isinstance(key, str) else None
        if not width or key in ranges:
            raise UnreadableModel(f"holds a storage {key!r} of unknown size")
        count = int.from_bytes(source.read(position, COUNT_BYTES), byteorder, signed=True)
        ranges[key] = (position + COUNT_BYTES, count * width)
        position += COUNT_BYTES + count * width
        if count < 0 or position > source.size:
            raise UnreadableModel("ends within its tensors: truncated download, or damaged")
    return ranges
