"""A strict reader of zip directories.

PyTorch's reader and Python's zipfile disagree on files that hold a name twice, two archives in a
row, or headers that contradict each other: a checker could be shown another model than the one
that runs. Whatever can be read in two ways is refused. Checksums are not compared, as PyTorch does
not compare them either. Layout: APPNOTE.TXT 6.3, sections 4.3.7 to 4.3.16.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from bncheck.errors import UnreadableModel
from bncheck.readers.source import Source

MAGIC = b"PK\x03\x04"
MAX_ENTRIES = 2**19
MAX_DIRECTORY = 64 * 2**20  # bytes
MAX_INFLATED = 64 * 2**20  # bytes of a compressed storage
MAX_ALL_INFLATED = 2**30  # bytes of all that is inflated
MAX_COMMENT = 0xFFFF
COPIED_AT_ONCE = 2**20  # bytes
MAX_NAME = 1000  # characters
STORED, DEFLATED = 0, 8
SATURATED = 0xFFFFFFFF  # a 32-bit field whose value stands elsewhere, in 64 bits
ENCRYPTED = 0x0001 | 0x0040 | 0x2000
SIZES_FOLLOW = 0x0008
FOLDER = 0x10  # among the external attributes

END = struct.Struct("<4s4H2LH")
END64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR64 = struct.Struct("<4sLQL")
CENTRAL = struct.Struct("<4s6H3L5H2L")
LOCAL = struct.Struct("<4s5H3L2H")


class Entry(NamedTuple):
    """A file of the archive, as the central directory has it; sizes in bytes."""

    name: str
    flags: int
    method: int
    compressed_size: int
    size: int
    header_offset: int
    crc: int


class ZipArchive:
    """The entries of a zip file. Raises UnreadableModel for all that is not one plain archive."""

    def __init__(self, source: Source) -> None:
        self._source = source
        begin, size, count = _locate_directory(source)
        entries = list(_parse_directory(source.read(begin, size)))
        if len(entries) != count:
            raise UnreadableModel(f"zip directory has {len(entries)} entries, but says {count}")
        self._offsets = _checked_offsets(entries, begin)
        self.entries: Mapping[str, Entry] = {entry.name: entry for entry in entries}
        if len(self.entries) != count:
            raise UnreadableModel("zip archive holds an entry of the same name twice")
        lowered = ((name.lower(), name) for name in self.entries)
        self._cased = Counter(lower for lower, name in lowered if lower != name)
        self._inflated = ("", b"")  # the last one: many tensors may lie in one storage
        self._budget = MAX_ALL_INFLATED

    def has(self, name: str) -> bool:
        """Whether there is an entry of that name.

        Raises UnreadableModel for one that differs in upper and lower case only: PyTorch takes
        the one for the other.
        """
        lower = name.lower()
        spellings = self._cased[lower] + (lower in self.entries)
        if spellings > (name in self.entries):
            raise UnreadableModel(f"zip archive holds {name!r} in another spelling")
        return name in self.entries

    def read(self, name: str, limit: int) -> bytes:
        """The content of an entry, inflated; refused where it is longer than ``limit`` bytes."""
        entry = self.entries[name]
        largest = max(entry.size, entry.compressed_size)
        if largest > limit:
            raise UnreadableModel(f"zip entry {name!r} has {largest} bytes, over {limit}")
        data = self._source.read(self._data_offset(entry), entry.compressed_size)
        return data if entry.method == STORED else self._inflate(data, entry)

    def _inflate(self, data: bytes, entry: Entry) -> bytes:
        self._budget -= entry.size
        if self._budget < 0:
            raise UnreadableModel("zip archive is compressed, and too much of it to inflate")
        return _inflate(data, entry)

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """Bytes of an entry; only what is asked for is read where the entry is stored."""
        entry = self.entries[name]
        if offset < 0 or length < 0 or offset + length > entry.size:
            raise UnreadableModel(f"zip entry {name!r} is shorter than the tensor that lies in it")
        if entry.method == STORED:
            return self._source.read(self._data_offset(entry) + offset, length)
        if self._inflated[0] != name:
            self._inflated = (name, self.read(name, MAX_INFLATED))
        return self._inflated[1][offset : offset + length]

    def raw(self, name: str) -> Iterator[bytes]:
        """An entry as it lies in the file, a part at a time: to be copied, not inflated."""
        entry = self.entries[name]
        begin = self._data_offset(entry)
        for at in range(0, entry.compressed_size, COPIED_AT_ONCE):
            yield self._source.read(begin + at, min(COPIED_AT_ONCE, entry.compressed_size - at))

    def _data_offset(self, entry: Entry) -> int:
        """Where an entry's content begins, once its local header agrees with the directory."""
        header = self._source.read(entry.header_offset, LOCAL.size)
        fields = LOCAL.unpack(header)
        magic, _, flags, method, _, _, _, compressed, size = fields[:9]
        name_size: int = fields[9]
        extra_size: int = fields[10]
        name = self._source.read(entry.header_offset + LOCAL.size, name_size)
        begin = entry.header_offset + LOCAL.size + name_size + extra_size
        left_open = (0, SATURATED) if flags & SIZES_FOLLOW else (SATURATED,)
        if (
            magic != MAGIC
            or name != entry.name.encode()
            or (flags, method) != (entry.flags, entry.method)
            or compressed not in (entry.compressed_size, *left_open)
            or size not in (entry.size, *left_open)
            or begin + entry.compressed_size > self._limit(entry)
        ):
            raise UnreadableModel(f"zip entry {entry.name!r}: local header and directory disagree")
        return begin

    def _limit(self, entry: Entry) -> int:
        """Where the next entry, or the directory, begins."""
        return self._offsets[bisect_right(self._offsets, entry.header_offset)]


def _locate_directory(source: Source) -> tuple[int, int, int]:
    """Offset, size and entry count of the central directory."""
    offset, end = _find_end(source)
    _, disk, directory_disk, _, count, size, begin, _ = END.unpack(end)
    stop = offset
    if offset >= LOCATOR64.size:
        locator = source.read(offset - LOCATOR64.size, LOCATOR64.size)
        if locator.startswith(b"PK\x06\x07"):
            saturated = (count, size, begin)
            stop, count, size, begin = _read_end64(source, locator, offset - LOCATOR64.size)
            if any(
                short not in (long, most)
                for short, long, most in zip(
                    saturated, (count, size, begin), (0xFFFF, SATURATED, SATURATED), strict=True
                )
            ):
                raise UnreadableModel("zip: the 32-bit and 64-bit end records disagree")
    if disk or directory_disk:
        raise UnreadableModel("is one part of a zip archive in several parts")
    if begin + size != stop:
        raise UnreadableModel("zip directory is not where it should be: two archives in one file?")
    if size > MAX_DIRECTORY or count > MAX_ENTRIES:
        raise UnreadableModel(f"zip directory has {count} entries in {size} bytes: too many")
    return begin, size, count


def _find_end(source: Source) -> tuple[int, bytes]:
    for tail_size in (END.size, END.size + MAX_COMMENT):
        tail_offset = max(source.size - tail_size, 0)
        tail = source.read(tail_offset, source.size - tail_offset)
        found = tail.rfind(b"PK\x05\x06")
        if found >= 0 and len(tail) - found >= END.size:
            end = tail[found : found + END.size]
            if END.size + END.unpack(end)[-1] != len(tail) - found:
                raise UnreadableModel("zip: something follows the end of the archive")
            return tail_offset + found, end
    raise UnreadableModel("zip archive has no end: truncated download?")


def _read_end64(source: Source, locator: bytes, offset: int) -> tuple[int, int, int, int]:
    """Offset of the 64-bit end record, and the entry count, size and offset that it gives."""
    _, disk, begin, _ = LOCATOR64.unpack(locator)
    if disk or begin + END64.size != offset:
        raise UnreadableModel("zip: the 64-bit end record is not where it should be")
    magic, _, _, _, disk, directory_disk, _, count, size, directory = END64.unpack(
        source.read(begin, END64.size)
    )
    if magic != b"PK\x06\x06" or disk or directory_disk:
        raise UnreadableModel("zip: the 64-bit end record is damaged")
    return begin, count, size, directory


def _parse_directory(data: bytes) -> Iterator[Entry]:
    position = 0
    while position < len(data):
        if len(data) - position < CENTRAL.size:
            raise UnreadableModel("zip directory is damaged")
        fields = CENTRAL.unpack_from(data, position)
        magic, _, _, flags, method, _, _, crc, compressed, size = fields[:10]
        name_size, extra_size, comment_size, disk, _, attributes, offset = fields[10:]
        begin = position + CENTRAL.size
        name = _decode_name(data[begin : begin + name_size])
        begin += name_size
        position = begin + extra_size + comment_size
        if magic != b"PK\x01\x02" or position > len(data) or disk:
            raise UnreadableModel("zip directory is damaged")
        if SATURATED in (size, compressed, offset):
            extra = data[begin : begin + extra_size]
            size, compressed, offset = _widen((size, compressed, offset), extra)
        if size and (attributes & FOLDER or name[-1:] == "/"):
            # PyTorch extracts no folder: its tensor would be whatever lay in the memory.
            raise UnreadableModel(f"zip entry {name!r} is marked as a folder, but holds data")
        yield Entry(name, flags, method, compressed, size, offset, crc)


def _decode_name(raw: bytes) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise UnreadableModel("zip entry has a name that is not UTF-8") from None
    if "\0" in name:
        raise UnreadableModel("zip entry has a NUL in its name")
    if len(name) > MAX_NAME:
        raise UnreadableModel(f"zip entry has a name of over {MAX_NAME} characters")
    return name


def _widen(fields: tuple[int, int, int], extra: bytes) -> tuple[int, int, int]:
    """Replace saturated 32-bit fields by those of the zip64 extra field (header 0x0001)."""
    position = 0
    while position + 4 <= len(extra):
        header, size = struct.unpack_from("<2H", extra, position)
        if header == 1:
            wide = list(
                struct.unpack_from(
                    f"<{min(size, len(extra) - position - 4) // 8}Q", extra, position + 4
                )
            )
            if len(wide) >= fields.count(SATURATED):
                first, second, third = (wide.pop(0) if f == SATURATED else f for f in fields)
                return first, second, third
            break
        position += 4 + size
    raise UnreadableModel("zip entry has no 64-bit sizes where it needs them")


def _checked_offsets(entries: Iterable[Entry], directory: int) -> array[int]:
    """Where the entries, and then the directory, begin; refused where they share bytes."""
    in_place = sorted(entries, key=attrgetter("header_offset"))
    if in_place and in_place[0].header_offset != 0:
        raise UnreadableModel("zip archive does not begin with its first entry")
    offsets = array("Q", (entry.header_offset for entry in in_place))
    offsets.append(directory)
    for entry, limit in zip(in_place, islice(offsets, 1, None), strict=True):
        _require_sound(entry, limit)
    return offsets


def _require_sound(entry: Entry, limit: int) -> None:
    if entry.flags & ENCRYPTED:
        raise UnreadableModel("is a password-protected zip; unpack it first")
    if entry.method not in (STORED, DEFLATED):
        raise UnreadableModel(f"zip entry {entry.name!r} has an unknown compression")
    if entry.method == STORED and entry.size != entry.compressed_size:
        raise UnreadableModel(f"zip entry {entry.name!r} has two sizes")
    if entry.header_offset + LOCAL.size + entry.compressed_size > limit:
        raise UnreadableModel(f"zip entry {entry.name!r} overlaps what follows it")


def _inflate(data: bytes, entry: Entry) -> bytes:
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.size + 1)
    except zlib.error as error:
        raise UnreadableModel(f"zip entry {entry.name!r} cannot be inflated") from error
    if len(inflated) != entry.size:
        raise UnreadableModel(f"zip entry {entry.name!r} does not have the size that it says")
    return inflated
