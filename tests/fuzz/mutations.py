"""Changes files: as bytes, and as what they are, so that a mutant reaches the inner parsers."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace

import pickles
import protobufs
from seed import Seed

Random = random.Random
Change = Callable[[bytes, Random, bytes], bytes]

EXTREMES = (0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40)
EXTREMES += (2**62, 2**63 - 1, 2**63, 2**64 - 1)
LARGEST = 2**18  # bytes of a mutant: growth is no aim
AS_IT_IS = 0.8  # how often a file is changed as what it is, rather than as bytes
ODD_JSON = (None, True, -1, 2**63, 1e308, "", "x", "as_int", [], {}, [[]], {"as_int": 1})
ODD_JSON += ({"a": None}, "../x", "/etc/passwd", "a\0b", "\ud800", -(10**30), 0.5, "Infinity")


def mutant(seed: Seed, chance: Random, donor: Seed) -> Seed:
    """A seed with some changes in one of its files, or in several."""
    files = dict(seed.files)
    given = chance.choice([*donor.files.values()])
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        (name,) = chance.choices([*files], [_weight(name) for name in files])
        if len(files) > 1 and chance.random() < 0.02:
            del files[name]
            break
        files[name] = changed(files[name], chance, given)[:LARGEST]
    return replace(seed, files=files)


def changed(data: bytes, chance: Random, donor: bytes = b"") -> bytes:
    """One change, as deep inside as the structure goes."""
    change = _change_of(data)
    if change is not None and chance.random() < AS_IT_IS:
        try:
            return change(data, chance, donor)
        except Exception:  # an earlier change broke the structure, in any way there is
            return change_bytes(data, chance, donor)
    return change_bytes(data, chance, donor)


def _change_of(data: bytes) -> Change | None:
    if data[:4] == b"PK\3\4":
        return change_zip
    if data[:1] == b"\x80":
        return pickles.change
    if data[8:9] == b"{" and data[3:8] == bytes(5):
        return change_safetensors
    if data[:1] in (b"{", b"["):
        return change_json
    if data[:1] == b"\x08" and data[4:8] != b"ORTM":
        return protobufs.change
    return change_text if data and data.isascii() and b"\0" not in data else None


def change_bytes(data: bytes, chance: Random, donor: bytes = b"") -> bytes:
    """Bits, bytes, numbers and ranges."""
    at, length = chance.randrange(len(data) + 1), chance.choice((1, 1, 2, 4, 8, 30, 200))
    end = min(at + length, len(data))
    match chance.randrange(8):
        case 0 if at < len(data):
            return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + chance.randbytes(end - at) + data[end:]
        case 2:
            return data[:at] + data[end:]
        case 3:
            return data[:at] + chance.randbytes(length) + data[at:]
        case 4:
            return data[:at] + data[at:end] * chance.choice((2, 2, 3, 50)) + data[end:]
        case 5 if chance.random() < 0.3:
            return data[:at]
        case 6 if donor:
            begin = chance.randrange(len(donor))
            return data[:at] + donor[begin : begin + length] + data[end:]
    return _with_a_number(data, chance)


def _with_a_number(data: bytes, chance: Random) -> bytes:
    """An integer of one to eight bytes, where one is likely to lie, set to something extreme."""
    width = chance.choice((1, 2, 4, 8))
    at = chance.randrange(len(data) + 1)
    at -= at % width if chance.random() < 0.7 else 0
    value = (chance.choice(EXTREMES) + chance.choice((0, 0, -1, 1))) % (1 << 8 * width)
    order = "big" if chance.random() < 0.1 else "little"
    return data[:at] + value.to_bytes(width, order) + data[at + width :]


def change_zip(data: bytes, chance: Random, donor: bytes) -> bytes:
    """An entry's content or name, or which entries there are; all lengths and sums are right."""
    if chance.random() < 0.1:
        return change_zip_record(data, chance)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = [(each.filename, archive.read(each)) for each in archive.infolist()]
    (index,) = chance.choices(range(len(files)), [_weight(name) for name, _ in files])
    name, content = files[index]
    match chance.randrange(20):
        case 0:
            del files[index]
        case 1:
            files[index] = (chance.choice(files)[0] + chance.choice(("", "", "/x")), content)
        case 2:
            files[index] = (name, chance.choice(files)[1])
        case 3:
            files[index] = (change_text(name.encode(), chance, b"").decode("latin-1"), content)
        case _:
            files[index] = (name, changed(content, chance, donor))
    return _zip(files)


def _weight(name: str) -> int:
    """What holds structure is more worthwhile than the numbers of a tensor."""
    return 1 if re.search(r"data/\w+$|\.storage$|\.distcp$", name) else 8


def _zip(files: Sequence[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def change_zip_record(data: bytes, chance: Random) -> bytes:
    """A field of a header, of the directory, or of its end."""
    records = [found.start() for found in re.finditer(b"PK(?:\1\2|\3\4|\5\6|\6\6|\6\7)", data)]
    at = chance.choice(records) + chance.randrange(4, 46)
    width = chance.choice((2, 4, 8))
    value = chance.choice((*EXTREMES, len(data), *records)) % (1 << 8 * width)
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


def change_safetensors(data: bytes, chance: Random, donor: bytes) -> bytes:
    """The header, with its length made right; or the numbers behind it."""
    (length,) = struct.unpack("<Q", data[:8])
    header, rest = data[8 : 8 + length], data[8 + length :]
    if chance.random() < 0.2:
        rest = change_bytes(rest, chance, donor)
    else:
        header = change_json(header, chance, donor)
    return struct.pack("<Q", len(header)) + header + rest


def change_json(data: bytes, chance: Random, donor: bytes) -> bytes:
    """Values anywhere in a document: replaced, removed, taken from elsewhere, in another order."""
    document = json.loads(data)
    places = _places(document)
    container, key = chance.choice(places)
    match chance.randrange(5):
        case 0:
            container[key] = chance.choice(ODD_JSON)
        case 1:
            del container[key]
        case 2:
            other, name = chance.choice(places)
            container[key] = json.loads(json.dumps(other[name]))
        case 3 if isinstance(container[key], int):
            container[key] = chance.choice((*EXTREMES, -1, container[key] + 1, container[key] - 1))
        case _ if isinstance(container, list):
            chance.shuffle(container)
        case _:
            container[chance.choice(("x", "as_int", "", "name"))] = container.pop(key)
    return json.dumps(document, separators=(",", ":")).encode()


def _places(document: object) -> list[tuple[dict | list, str | int]]:
    """Every container, with every key or index in it."""
    found, waiting = [], [document]
    while waiting:
        held = waiting.pop()
        for key, value in held.items() if isinstance(held, dict) else enumerate(held):
            found.append((held, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    return found


def change_text(data: bytes, chance: Random, donor: bytes) -> bytes:
    """Words and lines: of source code, of names, of what a YAML file says."""
    if chance.random() < 0.3:
        lines = data.splitlines(keepends=True)
        index = chance.randrange(len(lines))
        copied = chance.choice(([], [lines[index]] * 2, [chance.choice(lines), lines[index]]))
        return b"".join((*lines[:index], *copied, *lines[index + 1 :]))
    words = re.findall(rb"\w+|\s+|.", data)
    more = (b"", b"(", b")", b"[", b"None", b"-1", b"1e999", b"9" * 30, b'"', b"=", b"self", b"\\")
    words[chance.randrange(len(words))] = chance.choice((*more, *chance.choices(words, k=12)))
    return b"".join(words)
