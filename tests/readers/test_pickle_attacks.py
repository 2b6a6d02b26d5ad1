"""Pickles that make other readers crash, hang or fill the memory; each ends early and cheaply.

Every attack is read in a process of its own, so that its memory can be told.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from apart import require_cheap

# A pickle, opcode by opcode: "(" is MARK, "0" POP, "\x81" NEWOBJ, "R" REDUCE, "b" BUILD,
# "s" SETITEM, "u" SETITEMS, "e" APPENDS, "t" TUPLE, "\x85" and "\x86" TUPLE1 and TUPLE2.
ORDERED = b"ccollections\nOrderedDict\n"
EMPTY = ORDERED + b")R"


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def name(path: str) -> bytes:
    module, _, attribute = path.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def number(value: int) -> bytes:
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def numbered(count: int, each: Callable[[int], bytes]) -> bytes:
    """The pairs of a dictionary with the keys "0", "1", ..."""
    return b"".join(text(str(index)) + each(index) for index in range(count))


def storage(kind: str = "FloatStorage") -> bytes:
    return b"(" + text("storage") + name(f"torch.{kind}") + text("0") + text("cpu") + b"K\4tQ"


def tensor(shape: bytes, strides: bytes) -> bytes:
    view = storage() + b"K\0" + shape + strides + b"\x89" + EMPTY
    return name("torch._utils._rebuild_tensor_v2") + b"(" + view + b"tR"


def module(children: bytes, parameters: bytes = EMPTY) -> bytes:
    held = text("_parameters") + parameters + text("_buffers") + EMPTY
    return name("m.Net") + b")\x81}(" + held + text("_modules") + children + b"ub"


def layers(count: int, made: bytes) -> bytes:
    """A state_dict with the same running_var in many layers."""
    pairs = (text(f"bn{index}.running_var") + made for index in range(count))
    return b"}(" + b"".join(pairs) + b"u"


ATTACKS: dict[str, Callable[[], bytes]] = {
    # Sizes
    "a far place in the memo": lambda: b"Nr" + struct.pack("<I", 2**29),
    "bytes of eight exabytes": lambda: b"\x8e" + struct.pack("<Q", 2**63) + b"x",
    "a byte array of eight exabytes": lambda: b"\x96" + struct.pack("<Q", 2**63) + b"x",
    "a frame of eight exabytes": lambda: b"\x95" + struct.pack("<Q", 2**63) + b"N",
    "a number of two gigabytes": lambda: b"\x8b" + struct.pack("<i", 2**31 - 1),
    "a number of 50 megabytes": lambda: b"\x8b" + struct.pack("<i", 5 * 10**7) + bytes(5 * 10**7),
    "a number of a million digits": lambda: b"I" + b"9" * 10**6 + b"\n",
    "a bytearray of 8 gigabytes": lambda: name("builtins.bytearray") + number(2**33) + b"\x85R",
    "a text of 8 gigabytes": lambda: name("operator.mul") + text("x") + number(2**33) + b"\x86R",
    # Numbers
    "50 million dictionaries": lambda: b"}" * (5 * 10**7),
    "50 million marks": lambda: b"(" * (5 * 10**7),
    "50 million times nothing": lambda: b"N" * (5 * 10**7),
    "150,000 keys of one hash": lambda: (
        b"}(" + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(150_000)) + b"u"
    ),
    # Depth
    "a deep tuple": lambda: b")" + b"\x85" * 900_000,
    "a deep tuple as a key": lambda: b"})" + b"\x85" * 900_000 + b"Ns",
    "a deep list": lambda: b"]" * 900_000 + b"a" * 899_999,
    "deep calls": lambda: (
        name("a.b") + put(0) + b"0)" + (b"\x85" + put(1) + b"0" + get(0) + get(1) + b"R") * 250_000
    ),
    "deep modules": lambda: (
        (
            (name("m.N") + b")\x81}" + text("_parameters") + b"}s" + text("_modules") + b"}")
            + text("a")
        )
        * 60_000
        + b"N"
        + b"ssb" * 60_000
    ),
    "laughs": lambda: b")" + b"".join(put(i) + get(i) + b"\x86" for i in range(200_000)),
    # One thing in many places
    "a list in itself": lambda: b"]" + put(0) + b"(" + get(0) * 900_000 + b"e",
    "a dictionary in itself": lambda: b"}" + put(0) + text("a") + get(0) + b"s",
    "a module in itself": lambda: (
        name("m.Net")
        + (b")\x81" + put(0) + b"}" + text("_parameters") + b"}s" + text("_modules") + b"}(")
        + (text("a") + get(0) + text("b") + get(0) + b"usb")
    ),
    "a module in many places": lambda: module(
        b"}(" + text("a") + module(b"}") + put(0) + numbered(200_000, lambda i: get(0)) + b"u"
    ),
    "attributes of many objects": lambda: (
        (b"](}" + put(0) + b"(" + numbered(100_000, lambda i: b"N") + b"u")
        + ((name("a.b") + b")\x81" + get(0) + b"b") * 100_000 + b"e")
    ),
    "slots of many objects": lambda: (
        (b"](}" + put(0) + b"(" + numbered(100_000, lambda i: b"N") + b"u")
        + (get(0) + b"\x86" + put(1) + (name("a.b") + b")\x81" + get(1) + b"b") * 100_000 + b"e")
    ),
    "parameters of many modules": lambda: (
        (b"}" + put(0) + b"(")
        + numbered(20_000, lambda i: tensor(numbers(4), numbers(1)))
        + (b"u0" + module(b"}(" + numbered(20_000, lambda i: module(b"}", get(0))) + b"u"))
    ),
    "pairs of many dictionaries": lambda: (
        (b"]" + put(0) + b"(" + b"NN\x86" * 100_000 + b"e\x85" + put(1) + b"(")
        + ((ORDERED + get(1) + b"R") * 1000 + b"t")
    ),
    "arguments of many calls": lambda: (
        (b"(" + b"N" * 100_000 + b"t" + put(0) + b"(")
        + ((name("torch._utils._rebuild_tensor_v2") + get(0) + b"R") * 100_000 + b"t")
    ),
    "a name of 10 megabytes": lambda: (
        b"(" + text("x" * 10**7 + ".weight") + put(0) + (b"}" + get(0) + b"Ns") * 100_000 + b"t"
    ),
    "a module in a million places": lambda: module(
        b"}(" + text("a") + module(b"}") + put(0) + numbered(1_200_000, lambda i: get(0)) + b"u"
    ),
    "a tensor under a million names": lambda: (
        (tensor(numbers(4), numbers(1)) + put(0) + b"0}(")
        + b"".join(text(f"{i}.running_var") + get(0) for i in range(1_200_000))
        + b"u"
    ),
    "a tensor under 200,000 names": lambda: (
        (tensor(numbers(4), numbers(1)) + put(0) + b"0}(")
        + b"".join(text(f"{i}.running_var") + get(0) for i in range(200_000))
        + b"u"
    ),
    "a tensor in a million models": lambda: (
        (tensor(numbers(4), numbers(1)) + put(0) + b"0" + text("weight") + put(1) + b"0](")
        + (b"}" + get(1) + get(0) + b"s") * 900_000
        + b"e"
    ),
    "a tree in many models": lambda: (
        (module(b"}(" + numbered(5_000, lambda i: module(b"}")) + b"u") + put(0) + b"0](")
        + module(b"}" + text("a") + get(0) + b"s") * 900
        + b"e"
    ),
    # Tensors
    "a shape of many dimensions": lambda: (
        (numbers(*[2**62] * 100_000) + put(0) + b"0}" + text("bn.running_var"))
        + (tensor(get(0), get(0)) + b"s")
    ),
    "a trillion elements": lambda: layers(100, tensor(numbers(2**40), numbers(0))),
    "many views of one element": lambda: layers(1000, tensor(numbers(2**23), numbers(0))),
    "elements far apart": lambda: layers(100, tensor(numbers(4), numbers(2**62))),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name, make, tmp_path):
    pickled = b"\x80\x02" + ATTACKS[name]() + b"."
    path = tmp_path / "attack.pt"
    path.write_bytes(make.zip(make.Entry("a/data.pkl", pickled), make.Entry("a/data/0", bytes(16))))
    require_cheap(path)
