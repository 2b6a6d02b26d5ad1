"""The wire format is walked without payloads being read, and nothing unsound is accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bncheck.errors import UnreadableModel
from bncheck.readers.onnx import protobuf
from bncheck.readers.onnx.protobuf import (
    DOUBLES,
    FIRST_READ,
    FLOATS,
    INTEGER,
    INTEGERS,
    LARGEST_READ,
    PAYLOAD,
    Walker,
    packed,
    signed,
    varint,
)
from bncheck.readers.source import BytesSource

WIRES = {1: INTEGERS, 2: PAYLOAD, 3: FLOATS, 4: DOUBLES, 5: INTEGER}


class RecordingSource(BytesSource):
    """Remembers which ranges were read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return super().read(offset, length)

    @property
    def total(self) -> int:
        return sum(length for _, length in self.reads)


def number(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def text(field: int, payload: bytes) -> bytes:
    return number(field << 3 | 2) + number(len(payload)) + payload


def integer(field: int, value: int) -> bytes:
    return number(field << 3) + number(value)


def fields(data: bytes) -> list[tuple[int, object]]:
    """Known fields with their payloads."""
    walker = Walker(BytesSource(data))
    found = walker.fields((0, len(data)), WIRES)
    return [(n, v if end == -1 else walker.payload((v, end))) for n, v, end in found]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (integer(1, 300), [(1, 300)]),
        (integer(1, (1 << 64) - 1), [(1, (1 << 64) - 1)]),
        (text(2, b"abc") + text(2, b""), [(2, b"abc"), (2, b"")]),
        (number(3 << 3 | 5) + b"abcd", [(3, b"abcd")]),
        (number(4 << 3 | 1) + b"abcdefgh", [(4, b"abcdefgh")]),
        (text(1, number(7) + number(300)), [(1, b"\x07\xac\x02")]),  # packed
        (integer(9, 1) + text(1000, b"skipped") + integer(5, 2), [(5, 2)]),
        (b"\x88\x00\x01", [(1, 1)]),  # a tag with a superfluous zero is still one reading
    ],
)
def test_known_fields_are_given_in_order_and_others_skipped(
    data: bytes, expected: list[tuple[int, object]]
) -> None:
    assert fields(data) == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x80" * 10 + b"\x01", "more than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (b"\x08\x80", "truncated"),
        (b"\x12", "truncated"),
        (b"\x12\x05abc", "truncated"),
        (b"\x12" + number((1 << 64) - 5) + b"abc", "truncated"),  # a negative length
        (b"\x1d\x00\x00", "truncated"),
        (b"\x0b\x0c", "unknown type"),  # a group
        (b"\x0e", "unknown type"),
        (b"\x02\x00", "no number"),  # field 0
        (number(1 << 40 | 2) + b"\x00", "no number that is allowed"),
        (text(5, b"abc"), "wrong type"),
        (integer(2, 1), "wrong type"),
    ],
)
def test_what_is_no_sound_protobuf_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableModel, match=reason):
        fields(data)


def test_a_field_may_not_run_past_its_message() -> None:
    inner = b"\x12\x09abc"
    data = text(2, inner) + text(2, b"what follows")
    walker = Walker(BytesSource(data))
    with pytest.raises(UnreadableModel, match="longer than what holds it"):
        list(walker.fields((2, 2 + len(inner)), WIRES))


def test_a_header_may_not_run_past_its_message() -> None:
    walker = Walker(BytesSource(b"\x08\xff\x01\x01"))
    with pytest.raises(UnreadableModel, match="longer than what holds it"):
        list(walker.fields((0, 2), WIRES))


@given(st.integers(0, (1 << 64) - 1))
def test_varints_are_read_back(value: int) -> None:
    assert varint(number(value), 0) == (value, len(number(value)))


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_varints_carry_two_s_complement(value: int) -> None:
    assert signed(value % (1 << 64)) == value


@given(st.lists(st.integers(0, (1 << 64) - 1)))
def test_packed_numbers_are_read_back(values: list[int]) -> None:
    assert list(packed(b"".join(map(number, values)))) == values


def test_a_packed_field_may_not_end_within_a_number() -> None:
    with pytest.raises(UnreadableModel, match="cut off"):
        list(packed(b"\x01\x80"))


def test_payloads_are_not_read() -> None:
    sizes = [1_000_000, 3, 2_000_000, 500]
    source = RecordingSource(b"".join(text(2, b"x" * size) for size in sizes))
    spans = [end - begin for _, begin, end in Walker(source).fields((0, source.size), WIRES)]
    assert spans == sizes
    assert source.total <= 4 * FIRST_READ


def test_reading_without_skips_takes_few_reads() -> None:
    source = RecordingSource(integer(1, 5) * 500_000)
    assert sum(1 for _ in Walker(source).fields((0, source.size), WIRES)) == 500_000
    assert source.total < 1.1 * source.size
    assert len(source.reads) < 2 * source.size / LARGEST_READ


def test_nested_messages_share_one_window() -> None:
    message = text(2, text(2, integer(1, 1) + text(2, b"name")))
    source = RecordingSource(message * 100)
    walker = Walker(source)
    names = [
        walker.text((begin, end))
        for _, *outer in walker.fields((0, source.size), WIRES)
        for _, *inner in walker.fields((outer[0], outer[1]), WIRES)
        for _, begin, end in walker.fields((inner[0], inner[1]), {2: PAYLOAD})
    ]
    assert names == ["name"] * 100
    assert source.total < 1.5 * source.size


def test_text_that_straddles_the_window_is_whole() -> None:
    name = b"n" * 600
    source = BytesSource(text(2, name) * 40)
    walker = Walker(source)
    spans = [(begin, end) for _, begin, end in walker.fields((0, source.size), WIRES)]
    assert {walker.text(span) for span in spans} == {name.decode()}


def test_text_must_be_utf8_and_no_novel() -> None:
    walker = Walker(BytesSource(b"\xff\xfe" + b"a" * (protobuf.LONGEST_TEXT + 1)))
    with pytest.raises(UnreadableModel, match="no UTF-8"):
        walker.text((0, 2))
    with pytest.raises(UnreadableModel, match="million bytes"):
        walker.text((2, walker.source.size))


def test_equal_words_are_one_object() -> None:
    walker = Walker(BytesSource(b"ConvConv" + b"c" * 200))
    assert walker.word((0, 4)) is walker.word((4, 8))
    assert walker.word((8, 208)) == "c" * 200


def test_the_number_of_fields_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "BUDGET", 1_000)
    with pytest.raises(UnreadableModel, match="more nodes, tensors and names"):
        fields(integer(1, 5) * 50_000)
    with pytest.raises(UnreadableModel, match="more nodes, tensors and names"):
        Walker(BytesSource(b"")).charge(1_001)
