"""Writes zip archives as PyTorch does: the content of every entry begins at a multiple of 64 bytes.

The same content gives the same bytes: no entry has a date. An entry that stays is copied as it
lies in its archive, compressed or not. Layout: APPNOTE.TXT 6.3, sections 4.3.7 to 4.3.16, 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from bncheck.readers.ziparchive import (
    CENTRAL,
    END,
    END64,
    LOCAL,
    LOCATOR64,
    MAGIC,
    SATURATED,
    SIZES_FOLLOW,
    STORED,
    ZipArchive,
)

ALIGNMENT = 64
UTF8 = 0x0800
VERSION, VERSION64 = 20, 45
NO_DATE = 0x21  # the first day that a zip can tell
PADDING = b"FB"  # the extra field by which PyTorch aligns
MOST_ENTRIES = 0xFFFF
DESCRIPTOR, DESCRIPTOR64 = struct.Struct("<4s3L"), struct.Struct("<4sL2Q")


@dataclass(frozen=True, slots=True)
class Copied:
    """An entry of another archive, as it is."""

    archive: ZipArchive
    name: str

    @property
    def head(self) -> Head:
        """What the directory says of it."""
        entry = self.archive.entries[self.name]
        return Head(self.name, entry.method, entry.compressed_size, entry.size, entry.crc)


@dataclass(frozen=True, slots=True)
class Made:
    """An entry whose content is made at once, when its turn comes."""

    name: str
    size: int
    make: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Streamed:
    """An entry of known size that is never in memory as a whole; its checksum follows it."""

    name: str
    size: int
    parts: Callable[[], Iterator[bytes]]


Part = Copied | Made | Streamed


@dataclass(frozen=True, slots=True)
class Head:
    """What is said of an entry."""

    name: str
    method: int
    compressed_size: int
    size: int
    crc: int
    crc_follows: bool = False


@dataclass(frozen=True, slots=True)
class _Placed:
    head: Head
    offset: int


def written(parts: Iterable[Part]) -> Iterator[bytes]:
    """All bytes of an archive of these entries, a piece at a time."""
    at = 0
    placed: list[_Placed] = []
    for part in parts:
        for piece in _entry(part, at, placed):
            yield piece
            at += len(piece)
    yield from _directory(placed, at)


def size_of(parts: Iterable[Part]) -> int:
    """The length of an archive of these entries."""
    at = 0
    placed: list[_Placed] = []
    for part in parts:
        head = _known(part)
        placed.append(_Placed(head, at))
        at += len(_local(head, at)) + head.compressed_size + len(_descriptor(head, 0))
    return at + sum(map(len, _directory(placed, at)))


def _known(part: Part, crc: int = 0) -> Head:
    """What can be said of an entry before it is written, but for the checksum of a new one."""
    if isinstance(part, Copied):
        return part.head
    follows = isinstance(part, Streamed)
    return Head(part.name, STORED, part.size, part.size, crc, follows)


def _flags(head: Head) -> int:
    return UTF8 | (SIZES_FOLLOW if head.crc_follows else 0)


def _entry(part: Part, at: int, placed: list[_Placed]) -> Iterator[bytes]:
    content = part.make() if isinstance(part, Made) else b""
    head = _known(part, zlib.crc32(content))
    if isinstance(part, Made):
        assert len(content) == part.size
        pieces: Iterable[bytes] = (content,)
    else:
        pieces = part.archive.raw(part.name) if isinstance(part, Copied) else part.parts()
    yield _local(head, at)
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc) if head.crc_follows else 0
        yield piece
    yield _descriptor(head, crc)
    placed.append(_Placed(replace(head, crc=crc) if head.crc_follows else head, at))


def _local(head: Head, at: int) -> bytes:
    """The header before an entry, padded so that the content is aligned."""
    name, wide = head.name.encode(), b""
    if _is_wide(head):
        wide = struct.pack("<2H2Q", 1, 16, head.size, head.compressed_size)
    begin = at + LOCAL.size + len(name) + len(wide) + 4
    padding = -begin % ALIGNMENT
    extra = wide + struct.pack("<2sH", PADDING, padding) + b"Z" * padding
    sizes = (SATURATED, SATURATED) if wide else (head.compressed_size, head.size)
    version = VERSION64 if wide else VERSION
    fields = (MAGIC, version, _flags(head), head.method, 0, NO_DATE, head.crc, *sizes)
    return LOCAL.pack(*fields, len(name), len(extra)) + name + extra


def _is_wide(head: Head) -> bool:
    return max(head.compressed_size, head.size) >= SATURATED


def _descriptor(head: Head, crc: int) -> bytes:
    if not head.crc_follows:
        return b""
    kind = DESCRIPTOR64 if _is_wide(head) else DESCRIPTOR
    return kind.pack(b"PK\x07\x08", crc, head.compressed_size, head.size)


def _directory(placed: list[_Placed], begin: int) -> Iterator[bytes]:
    size = 0
    for each in placed:
        record = _central(each)
        size += len(record)
        yield record
    if len(placed) >= MOST_ENTRIES or begin + size >= SATURATED:
        count = len(placed)
        yield END64.pack(
            b"PK\x06\x06", END64.size - 12, VERSION64, VERSION64, 0, 0, count, count, size, begin
        )
        yield LOCATOR64.pack(b"PK\x06\x07", 0, begin + size, 1)
    count = min(len(placed), MOST_ENTRIES)
    yield END.pack(
        b"PK\x05\x06", 0, 0, count, count, min(size, SATURATED), min(begin, SATURATED), 0
    )


def _central(each: _Placed) -> bytes:
    head, name = each.head, each.head.name.encode()
    fields = [head.size, head.compressed_size, each.offset]
    wide = [field for field in fields if field >= SATURATED]
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    size, compressed, offset = (min(field, SATURATED) for field in fields)
    version = VERSION64 if wide else VERSION
    known = (_flags(head), head.method, 0, NO_DATE, head.crc, compressed, size)
    lengths = (len(name), len(extra), 0, 0, 0, 0, offset)
    return CENTRAL.pack(b"PK\x01\x02", version, version, *known, *lengths) + name + extra
