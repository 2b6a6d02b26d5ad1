"""Changes pickles by opcodes and by values: any value of a pickle may stand for any other."""

from __future__ import annotations

import pickletools
import random
from collections.abc import Iterator
from functools import lru_cache

Range = tuple[int, int]

_TORCH = b"ctorch._utils\n_rebuild_tensor_v2\n"
# What stands for a value on its own, some of which no model has.
ODD = (
    *(b"N", b"\x88", b"K\0", b"J\xff\xff\xff\xff", b"\x8a\x09" + bytes(8) + b"\1"),
    *(b")", b"]", b"}", b"\x8f", b"(K\1\x91", b"(K\1K\2t", b"}K\1K\2s", b"]K\1a"),
    *(b"G\x7f\xf8" + bytes(6), b"G\x7f\xf0" + bytes(6), b"\x8a\x08" + b"\xff" * 7 + b"\x7f"),
    *(b"X\0\0\0\0", b"X\1\0\0\0x", b"X\3\0\0\0a\nb", b"X\3\0\0\0\xed\xa0\x80", b"C\2ab"),
    *(b"cos\nsystem\n", b"cos\nsystem\nX\1\0\0\0x\x85R", b"(K\1ios\nsystem\n"),
    *(b"K\1Q", b"X\1\0\0\0aQ", b"h\0", b"j\5\0\0\0", b"\x82\1", b"\x97"),
    *(_TORCH + b")R", b"ctorch._utils\n_rebuild_x\n)R", b"ctorch\nSize\n(K\2K\2t\x85R"),
    *(b"ctorch\nFloatStorage\n", b"ctorch\nfloat16\n", b"ccollections\nOrderedDict\n)R"),
)


def change(data: bytes, chance: random.Random, donor: bytes) -> bytes:
    """One value or opcode of the pickles that a file begins with."""
    data, opcodes, values = _parts(data)
    first, last = chance.choice(opcodes)
    match chance.randrange(8):
        case 0:
            return data[:first] + data[last:]
        case 1:
            return data[:last] + data[first:last] + data[last:]
        case 2:
            other = chance.choice(opcodes)
            return data[:first] + data[slice(*other)] + data[last:]
        case 3:
            return data[:first] + chance.choice(ODD) + data[first:]
        case 4 if last - first > 1:
            at = chance.randrange(first + 1, last)
            return data[:at] + chance.randbytes(1) + data[at + 1 :]
        case 5:
            begin, end = chance.choice(values)
            other = chance.choice(values)
            return data[:begin] + data[slice(*other)] + data[end:]
    begin, end = chance.choice(values)
    return data[:begin] + chance.choice(ODD) + data[end:]


@lru_cache(maxsize=512)  # the same files are changed again and again
def _parts(data: bytes) -> tuple[bytes, list[Range], list[Range]]:
    """A file without frames, and where in it opcodes and values lie."""
    data = unframed(data)
    parsed = [*_pickles(data)]
    opcodes = [each for _, ranges in parsed for each in ranges]
    return data, opcodes, [each for found, _ in parsed for each in _values(found)]


def unframed(data: bytes) -> bytes:
    """The same without what tells how long parts of it are, which every change would belie."""
    frames = [
        (at, end)
        for opcodes, _ in _pickles(data)
        for opcode, at, end in opcodes
        if opcode.name == "FRAME"
    ]
    for at, end in reversed(frames):
        data = data[:at] + data[end:]
    return data


_Opcodes = list[tuple[pickletools.OpcodeInfo, int, int]]


def _pickles(data: bytes) -> Iterator[tuple[_Opcodes, list[Range]]]:
    """The opcodes of each pickle, with where they begin and end; the old format has five."""
    start = 0
    while data[start : start + 1] == b"\x80":
        found = [(opcode, start + at) for opcode, _, at in pickletools.genops(data[start:])]
        ends = [at for _, at in found[1:]] + [found[-1][1] + 1]
        opcodes = [(opcode, at, end) for (opcode, at), end in zip(found, ends, strict=True)]
        yield opcodes, [(at, end) for _, at, end in opcodes]
        start = ends[-1]


def _values(opcodes: _Opcodes) -> Iterator[Range]:
    """Where each value that stood alone on the stack begins and ends."""
    mark = pickletools.markobject
    stack: list[tuple[int, bool]] = []
    for opcode, at, end in opcodes:
        before = list(opcode.stack_before)
        begin = at
        if mark in before:
            while not stack[-1][1]:
                begin = stack.pop()[0]
            begin = stack.pop()[0]
            before = before[: before.index(mark)]
        for _ in before:
            begin = stack.pop()[0]
        for made in opcode.stack_after:
            stack.append((begin, made is mark))
            if made is not mark:
                yield begin, end
