from __future__ import annotations

import io
import struct
import zipfile

import pytest

from bncheck.errors import UnreadableModel
from bncheck.readers.source import BytesSource
from bncheck.readers.ziparchive import MAX_INFLATED, ZipArchive

ONE, TWO = b"one" * 10, b"two!" * 20


def archive(data: bytes) -> ZipArchive:
    return ZipArchive(BytesSource(data))


def contents(data: bytes) -> dict[str, bytes]:
    opened = archive(data)
    return {name: opened.read(name, 2**20) for name in opened.entries}


@pytest.fixture
def two(make):
    """The two entries of a plain archive."""
    return make.Entry("r/a", ONE), make.Entry("r/b", TWO)


def with_zipfile(files, compression=zipfile.ZIP_STORED, **options) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression, **options) as writer:
        for name, data in files.items():
            writer.writestr(name, data)
    return buffer.getvalue()


def zip64_end(data: bytes, saturate: bool = True, **replaced: int) -> bytes:
    """The same archive with a 64-bit end record and its locator."""
    body, end = data[:-22], struct.unpack("<4s4H2LH", data[-22:])
    fields = {"count": end[3], "size": end[5], "begin": end[6], "disk": 0, **replaced}
    sizes = (fields["count"], fields["count"], fields["size"], fields["begin"])
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, fields["disk"], *sizes)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body), 1)
    short = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF) if saturate else end[3:7]
    return body + record + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *short, 0)


def zip64_extra(*numbers: int) -> bytes:
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


SOUND = {
    "stored": lambda make, a, b: make.zip(a, b),
    "deflated": lambda make, a, b: make.zip(a, make.Entry("r/b", TWO, method=8)),
    "a comment": lambda make, a, b: make.zip(a, b, comment=b"hello PK"),
    "the longest comment": lambda make, a, b: make.zip(a, b, comment=b"x" * 0xFFFF),
    "sizes in a data descriptor": lambda make, a, b: make.zip(
        make.Entry("r/a", ONE, flags=8, local={"size": 0, "compressed": 0}), b
    ),
    "64-bit end record": lambda make, a, b: zip64_end(make.zip(a, b)),
    "64-bit end record that is not needed": lambda make, a, b: zip64_end(make.zip(a, b), False),
    "written by zipfile": lambda make, a, b: with_zipfile({"r/a": ONE, "r/b": TWO}),
    "deflated by zipfile": lambda make, a, b: with_zipfile(
        {"r/a": ONE, "r/b": TWO}, zipfile.ZIP_DEFLATED
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_reads_what_a_sound_archive_holds(name, make, two):
    assert contents(SOUND[name](make, *two)) == {"r/a": ONE, "r/b": TWO}


def lie(make, **local):
    return make.Entry("r/a", ONE, local=local)


REFUSED = {
    "not a zip": (lambda make, a, b: b"PK\3\4" + b"\0" * 100, "no end"),
    "an empty file": (lambda make, a, b: b"", "no end"),
    "a name twice": (lambda make, a, b: make.zip(a, b, make.Entry("r/a", TWO)), "same name twice"),
    "bytes before": (lambda make, a, b: b"x" + make.zip(a, b, begin=1), "does not begin"),
    "bytes before that nobody counts": (lambda make, a, b: b"x" + make.zip(a, b), "two archives"),
    "bytes behind": (lambda make, a, b: make.zip(a, b) + b"x", "something follows"),
    "an end record in the comment": (
        lambda make, a, b: make.zip(a, b, comment=make.zip(a)),
        "two archives",
    ),
    "two archives": (lambda make, a, b: make.zip(a) + make.zip(b), "two archives"),
    "two archives, the second says so": (
        lambda make, a, b: make.zip(a) + make.zip(b, begin=len(make.zip(a))),
        "does not begin",
    ),
    "another name in the local header": (
        lambda make, a, b: make.zip(lie(make, name="r/c"), b),
        "r/a",
    ),
    "another method in the local header": (
        lambda make, a, b: make.zip(lie(make, method=8), b),
        "r/a",
    ),
    "another size in the local header": (lambda make, a, b: make.zip(lie(make, size=5), b), "r/a"),
    "another stored size there": (lambda make, a, b: make.zip(lie(make, compressed=5), b), "r/a"),
    "no size there, and no descriptor": (lambda make, a, b: make.zip(lie(make, size=0), b), "r/a"),
    "an entry that points at another": (
        lambda make, a, b: make.zip(a, make.Entry("r/b", ONE, offset=0)),
        "overlap",
    ),
    "an entry that points into another": (
        lambda make, a, b: make.zip(a, make.Entry("r/b", ONE, offset=40)),
        "overlap",
    ),
    "an entry behind the directory": (
        lambda make, a, b: make.zip(a, make.Entry("r/b", TWO, offset=10_000)),
        "overlap",
    ),
    "a password": (lambda make, a, b: make.zip(make.Entry("r/a", ONE, flags=1)), "password"),
    "an encrypted directory": (
        lambda make, a, b: make.zip(make.Entry("r/a", ONE, flags=0x2000)),
        "password",
    ),
    "bzip2": (lambda make, a, b: make.zip(make.Entry("r/a", ONE, method=12)), "compression"),
    "stored, with two sizes": (
        lambda make, a, b: make.zip(make.Entry("r/a", ONE, size=5)),
        "two sizes",
    ),
    "a name of a kilobyte": (
        lambda make, a, b: make.zip(make.Entry("r/" * 512, ONE)),
        "of over 1000",
    ),
    "a NUL in a name": (lambda make, a, b: make.zip(make.Entry("r/a\0b", ONE)), "NUL"),
    "more entries than it says": (
        lambda make, a, b: make.zip(a, b, count=1),
        "2 entries, but says 1",
    ),
    "fewer entries than it says": (
        lambda make, a, b: make.zip(a, b, count=3),
        "2 entries, but says 3",
    ),
    "a million entries": (lambda make, a, b: zip64_end(make.zip(a, b), count=10**6), "too many"),
    "no 64-bit size where one is due": (
        lambda make, a, b: make.zip(make.Entry("r/a", ONE, size=0xFFFFFFFF)),
        "64-bit sizes",
    ),
    "a 64-bit size in an extra field that is cut": (
        lambda make, a, b: make.zip(
            make.Entry("r/a", ONE, size=0xFFFFFFFF, extra=struct.pack("<2H", 1, 8))
        ),
        "64-bit sizes",
    ),
    "a 64-bit end record of another count": (
        lambda make, a, b: zip64_end(make.zip(a, b), saturate=False, count=1),
        "disagree",
    ),
    "a 64-bit end record of another disk": (
        lambda make, a, b: zip64_end(make.zip(a, b), disk=1),
        "damaged",
    ),
    "a folder that holds data": (
        lambda make, a, b: make.zip(a, make.Entry("r/b/", TWO)),
        "a folder",
    ),
    "an entry that is marked as a folder": (
        lambda make, a, b: make.zip(a, make.Entry("r/b", TWO, attributes=0x10)),
        "a folder",
    ),
    "a directory elsewhere": (lambda make, a, b: make.zip(a, b, offset=3), "two archives"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_can_be_read_in_two_ways(name, make, two):
    build, reason = REFUSED[name]
    with pytest.raises(UnreadableModel, match=reason):
        contents(build(make, *two))


def test_64_bit_sizes_come_from_the_extra_field(make):
    extra = struct.pack("<2H3s", 0x4246, 3, b"pad") + zip64_extra(len(ONE))
    entry = make.Entry("r/a", ONE, extra=extra)
    saturated = entry.directory(0).replace(
        struct.pack("<2L", len(ONE), len(ONE)), struct.pack("<2L", len(ONE), 0xFFFFFFFF)
    )
    data = make.zip(entry).replace(entry.directory(0), saturated)
    assert contents(data) == {"r/a": ONE}


@pytest.mark.parametrize("wrong", [b"\xff", b"\xc3"])
def test_a_name_that_is_not_utf_8_is_refused(wrong, make):
    data = make.zip(make.Entry("r/a", ONE)).replace(b"r/a", b"r/" + wrong)
    with pytest.raises(UnreadableModel, match="UTF-8"):
        archive(data)


def test_every_truncation_is_refused(make, two):
    data = make.zip(*two)
    for length in range(len(data)):
        with pytest.raises(UnreadableModel):
            contents(data[:length])


def test_more_than_65535_entries():
    files = {f"r/{number}": b"" for number in range(70_000)}
    assert archive(with_zipfile(files)).entries.keys() == files.keys()


@pytest.mark.parametrize("asked", ["r/data/0", "r/DATA/0", "r/Data/0"])
def test_a_name_in_two_spellings_is_refused(asked, make):
    """PyTorch's reader does not tell upper from lower case."""
    opened = archive(make.zip(make.Entry("r/data/0", ONE), make.Entry("r/DATA/0", TWO)))
    with pytest.raises(UnreadableModel, match="another spelling"):
        opened.has(asked)


def test_a_name_in_another_spelling_only_is_refused(make):
    opened = archive(make.zip(make.Entry("r/ByteOrder", ONE)))
    with pytest.raises(UnreadableModel, match="another spelling"):
        opened.has("r/byteorder")
    assert not opened.has("r/version")


class TestRanges:
    def test_only_what_is_asked_for_is_read(self, make, two):
        class Counting(BytesSource):
            def read(self, offset: int, length: int) -> bytes:
                self.count = getattr(self, "count", 0) + length
                return super().read(offset, length)

        source = Counting(make.zip(make.Entry("r/a", bytes(100_000))))
        opened = ZipArchive(source)
        assert opened.read_range("r/a", 5, 3) == bytes(3)
        assert source.count < 1000

    @pytest.mark.parametrize(("offset", "length"), [(0, 31), (30, 1), (-1, 2), (0, -1), (2**70, 1)])
    def test_a_range_beyond_the_entry_is_refused(self, offset, length, make, two):
        with pytest.raises(UnreadableModel, match="shorter than the tensor"):
            archive(make.zip(*two)).read_range("r/a", offset, length)

    def test_a_deflated_entry_is_inflated_once(self, make, monkeypatch):
        opened = archive(make.zip(make.Entry("r/a", bytes(range(250)), method=8)))
        monkeypatch.setattr(opened, "_budget", 250)
        assert [opened.read_range("r/a", i, 2) for i in (0, 7)] == [b"\0\1", b"\7\x08"]


class TestBombs:
    def test_an_entry_over_the_limit_is_not_inflated(self, make):
        opened = archive(make.zip(make.Entry("r/a", bytes(MAX_INFLATED + 1), method=8)))
        with pytest.raises(UnreadableModel, match="bytes, over"):
            opened.read_range("r/a", 0, 4)

    def test_an_entry_that_inflates_to_more_than_it_says(self, make):
        opened = archive(make.zip(make.Entry("r/a", bytes(10_000_000), method=8, size=100)))
        with pytest.raises(UnreadableModel, match="does not have the size"):
            opened.read("r/a", 1000_000)

    def test_an_entry_that_inflates_to_less_than_it_says(self, make):
        opened = archive(make.zip(make.Entry("r/a", bytes(50), method=8, size=100)))
        with pytest.raises(UnreadableModel, match="does not have the size"):
            opened.read("r/a", 1000)

    def test_data_that_is_no_deflate_stream(self, make):
        data = make.zip(make.Entry("r/a", ONE * 9, method=8))
        begin = data.index(b"r/a") + 3
        with pytest.raises(UnreadableModel, match="cannot be inflated"):
            contents(data[:begin] + b"\xff" * 3 + data[begin + 3 :])

    def test_all_entries_together_are_bounded(self, make, monkeypatch):
        opened = archive(make.zip(*(make.Entry(f"r/{i}", ONE, method=8) for i in range(5))))
        monkeypatch.setattr(opened, "_budget", 4 * len(ONE))
        with pytest.raises(UnreadableModel, match="too much"):
            [opened.read(name, 100) for name in opened.entries]
