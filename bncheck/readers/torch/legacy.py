"""PyTorch's format of before 1.6: pickles one after the other, then the storages.

The pickles are a magic number, a protocol number, facts of the machine, the object, and the keys
of the storages; then for each key its number of elements (int64) and the elements, in little
endian on every machine. See torch/serialization.py, _legacy_save, and torch/csrc/serialization.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bncheck.errors import UnreadableModel
from bncheck.model import Model
from bncheck.readers.source import Source
from bncheck.readers.torch import checkpoint, pickle_machine
from bncheck.readers.torch.pickle_machine import MAX_PICKLE, Loaded
from bncheck.readers.torch.pickle_state import Truncated
from bncheck.readers.torch.pickle_values import Value
from bncheck.readers.torch.storage import Budget, widths
from bncheck.tensor import ByteOrder

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
FIRST_READ = 2**20  # bytes; doubled until the pickles are whole
COUNT_BYTES = 8
_PICKLED_MAGIC = b"\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."  # LONG1, STOP


class LegacyStorages(NamedTuple):
    """The storages behind the pickles; see Storages."""

    source: Source
    ranges: Mapping[str, tuple[int, int]]  # key -> offset and length in the file, in bytes
    budget: Budget
    byteorder: ByteOrder = "little"

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Bytes of one storage."""
        begin, size = self.ranges.get(key, (0, -1))
        if offset < 0 or offset + length > size:
            raise UnreadableModel(f"storage {key!r} is shorter than the tensor that lies in it")
        return self.source.read(begin + offset, length)


def looks_like_legacy(start: bytes) -> bool:
    """Whether a file that begins so is in this format, whatever the protocol of its pickles."""
    return start[:1] == b"\x80" and start.find(_PICKLED_MAGIC, 0, 32) > 0


def read(source: Source) -> tuple[Model, ...]:
    """The models of a file."""
    value, storages = load(source)
    return checkpoint.models(value, storages, "torch-legacy", source)


def load(source: Source) -> tuple[Value, LegacyStorages]:
    """The pickle of a file as inert values, and its storages."""
    magic, protocol, _, pickled, keys = _pickles(source)
    if (magic.value, protocol.value) != (MAGIC, PROTOCOL):
        raise UnreadableModel(f"is in another version of PyTorch's old format than {PROTOCOL}")
    ranges = _ranges(source, keys, widths(pickled.references))
    return pickled.value, LegacyStorages(source, ranges, Budget())


def _pickles(source: Source) -> list[Loaded]:
    """The five pickles. How long they are together is known only once they are read."""
    length = min(FIRST_READ, source.size)
    while True:
        data = source.read(0, length)
        try:
            return _five(data)
        except Truncated:
            if length == min(source.size, MAX_PICKLE):
                raise
        length = min(2 * length, source.size, MAX_PICKLE)


def _five(data: bytes) -> list[Loaded]:
    pickles: list[Loaded] = []
    end = 0
    for _ in range(5):
        pickles.append(pickle_machine.load(data, end))
        end = pickles[-1].end
    return pickles


def _ranges(source: Source, keys: Loaded, widths: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    if not isinstance(keys.value, list):
        raise UnreadableModel("names its storages in an unknown way")
    position = keys.end
    ranges: dict[str, tuple[int, int]] = {}
    for key in keys.value:
        width = widths.get(key) if isinstance(key, str) else None
        if not width or key in ranges:
            raise UnreadableModel("holds a storage of unknown size")
        count = int.from_bytes(source.read(position, COUNT_BYTES), "little", signed=True)
        ranges[key] = (position + COUNT_BYTES, count * width)
        position += COUNT_BYTES + count * width
        if count < 0 or position > source.size:
            raise UnreadableModel("ends within its tensors: truncated download, or damaged")
    return ranges
