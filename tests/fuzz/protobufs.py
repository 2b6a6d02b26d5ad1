"""Changes protobuf messages field by field; the lengths of what is around stay right."""

from __future__ import annotations

import random
from dataclasses import dataclass

VARINT, BYTES = 0, 2
WIDTHS = {1: 8, 5: 4}
DEEPEST = 12
EXTREMES = (0, 1, 2, 7, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


@dataclass(slots=True)
class Field:
    """One field: the content of what is not a number of variable length, else that number."""

    number: int
    wire: int
    content: bytes = b""
    value: int = 0

    def encoded(self) -> bytes:
        tag = varint(self.number << 3 | self.wire)
        if self.wire == VARINT:
            return tag + varint(self.value)
        return tag + (varint(len(self.content)) if self.wire == BYTES else b"") + self.content


def change(data: bytes, chance: random.Random, donor: bytes, depth: int = 0) -> bytes:
    """One field, at any depth. Raises ValueError or IndexError for what is no message."""
    fields = parse(data)
    index = chance.randrange(len(fields))
    field = fields[index]
    if field.wire == BYTES and depth < DEEPEST and chance.random() < 0.85:
        field.content = _inside(field.content, chance, donor, depth)
        return b"".join(each.encoded() for each in fields)
    match chance.randrange(6):
        case 0:
            del fields[index]
        case 1:
            fields.insert(chance.randrange(len(fields) + 1), field)
        case 2:
            fields[index] = chance.choice(fields)
        case 3:
            field.number = chance.choice((1, 2, 5, 7, 8, 15, 20, 25, field.number + 1))
        case 4:
            chance.shuffle(fields)
        case _:
            field.value = chance.choice((*EXTREMES, field.value + 1))
            field.content = bytes(len(field.content))
    return b"".join(each.encoded() for each in fields)


def _inside(content: bytes, chance: random.Random, donor: bytes, depth: int) -> bytes:
    try:
        return change(content, chance, donor, depth + 1)
    except (ValueError, IndexError):  # text, or numbers
        at = chance.randrange(len(content) + 1)
        removed, length = chance.randrange(3), chance.randrange(3)
        return content[:at] + chance.randbytes(length) + content[at + removed :]


def parse(data: bytes) -> list[Field]:
    """The fields of a message. Raises ValueError or IndexError where it is none."""
    fields, at = [], 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _read_varint(data, at)
            fields.append(Field(number, wire, value=value))
            continue
        if wire not in (*WIDTHS, BYTES) or not number:
            raise ValueError(wire)
        length, at = _read_varint(data, at) if wire == BYTES else (WIDTHS[wire], at)
        if at + length > len(data):
            raise ValueError(length)
        fields.append(Field(number, wire, data[at : at + length]))
        at += length
    return fields


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes((*encoded, value))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] > 127:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
    return value | data[at] << shift, at + 1
