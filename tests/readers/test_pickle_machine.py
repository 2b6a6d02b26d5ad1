from __future__ import annotations

import argparse
import collections
import datetime
import enum
import functools
import pickle
import pickletools
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bncheck.errors import UnreadableModel
from bncheck.readers.torch import pickle_machine, pickle_state
from bncheck.readers.torch.pickle_machine import load
from bncheck.readers.torch.pickle_opcodes import HANDLERS
from bncheck.readers.torch.pickle_state import Truncated
from bncheck.readers.torch.pickle_values import Dict, Global, Instance, PersistentId, Set

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def plain(value):
    """A machine's value as the Python value that it stands for, calls as tuples."""
    match value:
        case Dict():
            return {plain(key): plain(held) for key, held in value.pairs}
        case Set():
            return {plain(each) for each in value.elements}
        case list():
            return [plain(each) for each in value]
        case tuple():
            return tuple(plain(each) for each in value)
        case Global():
            return value.path
        case PersistentId():
            return ("persistent", plain(value.value))
        case Instance():
            return described(value)
    return value


def described(value: Instance):
    facts = {
        "args": plain(value.args),
        "state": plain(value.state),
        "pairs": [(plain(key), plain(held)) for key, held in value.pairs],
        "elements": [plain(each) for each in value.elements],
    }
    return (value.class_path, {name: fact for name, fact in facts.items() if fact})


def interpreted(data: bytes):
    return plain(load(data).value)


DATA = [
    None,
    True,
    [0, 1, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -1, -(2**31), -(2**31) - 1, 2**64, -(2**80)],
    [0.0, -0.0, 1e-300, 1.5, float("inf"), float("-inf")],
    ["", "a", "ä\n\\\0'\"", "\U0001f600", "x" * 300, "\ud800"],
    [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((((),),),)],
    {"a": {"b": [{"c": ()}]}, 1: 2, None: 3, (1, "t"): 4},
    list(range(2500)),
    {str(number): number for number in range(2500)},
]
BYTES = [b"", bytes(range(256)), b"x" * 70_000]  # before protocol 3 a call of codecs.encode
CASES = [(value, protocol) for value in DATA for protocol in PROTOCOLS]
CASES += [(value, protocol) for value in BYTES for protocol in (3, 4, 5)]


@pytest.mark.parametrize(("value", "protocol"), CASES, ids=lambda value: repr(value)[:20])
def test_data_is_what_python_pickled(value, protocol):
    assert repr(interpreted(pickle.dumps(value, protocol))) == repr(value)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
NESTED = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(SCALARS, inner)
        | st.lists(inner).map(tuple)
        | st.tuples(inner, inner).map(lambda pair: [pair[0], pair[1], pair[0]])
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(NESTED, st.sampled_from(PROTOCOLS))
def test_nested_data_is_what_python_pickled(value, protocol):
    assert repr(interpreted(pickle.dumps(value, protocol))) == repr(value)


class Slotted:
    __slots__ = ("x",)

    def __init__(self):
        self.x = 5


class Plain:
    def __init__(self):
        self.x = [1]


class OwnDict(dict):
    pass


class OwnList(list):
    pass


class Colour(enum.Enum):
    RED = "red"


class WithKeywords:
    def __new__(cls, a, *, b):
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (1,), {"b": 2}


def marked(value, **attributes):
    value.__dict__.update(attributes)
    return value


HERE = __name__
OBJECTS = {
    "an ordered dictionary": (
        collections.OrderedDict(a=1),
        ("collections.OrderedDict", {"pairs": [("a", 1)]}),
    ),
    "a default dictionary": (
        collections.defaultdict(list, a=1),
        ("collections.defaultdict", {"args": ("builtins.list",), "pairs": [("a", 1)]}),
    ),
    "a namespace": (
        argparse.Namespace(lr=0.5),
        ("argparse.Namespace", {"state": {"lr": 0.5}}),
    ),
    "an object": (Plain(), (f"{HERE}.Plain", {"state": {"x": [1]}})),
    "slots": (Slotted(), (f"{HERE}.Slotted", {"state": (None, {"x": 5})})),
    "a dictionary with attributes": (
        marked(OwnDict(a=1), x=2),
        (f"{HERE}.OwnDict", {"state": {"x": 2}, "pairs": [("a", 1)]}),
    ),
    "a list with attributes": (
        marked(OwnList([1, 2]), x=2),
        (f"{HERE}.OwnList", {"state": {"x": 2}, "elements": [1, 2]}),
    ),
    "an enum": (Colour.RED, (f"{HERE}.Colour", {"args": ("red",)})),
    "keywords": (WithKeywords(1, b=2), (f"{HERE}.WithKeywords", {"args": (1,)})),
    "a deque": (
        collections.deque([1, 2]),
        ("collections.deque", {"elements": [1, 2]}),
    ),
    "complex": (1 + 2j, ("builtins.complex", {"args": (1.0, 2.0)})),
    "a range": (range(3), ("builtins.range", {"args": (0, 3, 1)})),
    "a date": (
        datetime.date(2020, 1, 2),
        ("datetime.date", {"args": (b"\x07\xe4\x01\x02",)}),
    ),
    "a partial": (
        functools.partial(int, base=2),
        (
            "functools.partial",
            {"args": ("builtins.int",), "state": ("builtins.int", (), {"base": 2}, None)},
        ),
    ),
}


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("name", OBJECTS)
def test_objects(name, protocol):
    value, expected = OBJECTS[name]
    assert interpreted(pickle.dumps(value, protocol)) == expected


def test_python_2_names_are_kept_and_reconstructors_looked_through():
    path, facts = interpreted(pickle.dumps(Plain(), 1))
    assert (path, facts["state"]) == (f"{HERE}.Plain", {"x": [1]})
    assert interpreted(pickle.dumps(range(3), 2))[0] == "__builtin__.xrange"


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_a_dictionary_subclass_holds_its_pairs_at_every_protocol(protocol):
    path, facts = interpreted(pickle.dumps(OwnDict(a=1), protocol))
    assert (path, facts["pairs"]) == (f"{HERE}.OwnDict", [("a", 1)])


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("value", [{1, 2, 3}, frozenset([4, 5])])
def test_sets(value, protocol):
    assert interpreted(pickle.dumps(value, protocol)) == value


def test_bytearrays():
    assert interpreted(pickle.dumps(bytearray(b"abc"), 5)) == b"abc"


def test_shared_and_recursive_values_stay_one():
    shared: list = [1]
    shared.append(shared)
    value = load(pickle.dumps([shared, shared])).value
    assert value[0] is value[1] is value[0][1]


TEXT = {
    "python 2 string": (b"S'a\\x41\\n'\n.", "aA\n"),
    "python 2 bytes": (b'S"\\xff"\n.', "\xff"),
    "short python 2 string": (b"U\x02\xc3\xa4.", "ä"),
    "long python 2 string": (b"T\x01\0\0\0\xff.", "\xff"),
    "unicode line": (b"V\\u00e4b\n.", "äb"),
    "booleans": (b"(I00\nI01\nI1\nl.", [False, True, 1]),
    "long line": (b"L-12L\n.", -12),
    "float line": (b"F1e3\n.", 1000.0),
    "long": (b"\x8b\x02\0\0\0\x00\xff.", -256),
    "empty long": (b"\x8a\0.", 0),
    "dictionary": (b"(S'a'\nI1\nd.", {"a": 1}),
    "put and get": (b"]p0\n0g0\n.", []),
    "duplicate": (b"(I1\n2t.", (1, 1)),
    "pop mark": (b"I7\n(I1\nI2\n1.", 7),
    "pop of a mark": (b"I7\n(0.", 7),
    "instance": (b"(I1\nicollections\nCounter\n.", ("collections.Counter", {"args": (1,)})),
    "object": (b"(ccollections\nCounter\nI1\no.", ("collections.Counter", {"args": (1,)})),
    "persistent line": (b"Pabc\n.", ("persistent", "abc")),
    "persistent value": (b"\x80\x02)Q.", ("persistent", ())),
    "byte array": (b"\x80\x05\x96\x01\0\0\0\0\0\0\0a.", b"a"),
    "what follows the stop is not read": (b"N.\xff", None),
}


@pytest.mark.parametrize("name", TEXT)
def test_opcodes_that_python_3_no_longer_writes(name):
    data, expected = TEXT[name]
    assert interpreted(data) == expected


def test_every_opcode_is_known_but_the_stop():
    known = {opcode.code for opcode in pickletools.opcodes}
    assert known - {"."} == HANDLERS.keys()


def test_several_pickles_in_a_row():
    data = pickle.dumps(1) + pickle.dumps([2])
    first = load(data)
    assert (first.value, load(data, first.end).value) == (1, [2])
    assert load(data, first.end).end == len(data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_truncation_is_said_to_be_one(protocol):
    data = pickle.dumps({"a": [1.5, "text", (1, 2)], "b": Plain()}, protocol)
    for length in range(len(data)):
        with pytest.raises(Truncated):
            load(data[:length])


def test_a_dictionary_is_made_of_what_its_argument_held_at_the_call(make):
    pairs = [["a", 1], ("b", 2)]
    value = make.Call("collections.OrderedDict", (pairs,), items=(("a", 3),))
    assert interpreted(make.pickle(value))[1]["pairs"] == [("a", 1), ("b", 2), ("a", 3)]


def test_references_are_listed_even_where_nothing_holds_them():
    loaded = load(b"\x80\x02(X\x01\0\0\0aQ0X\x01\0\0\0bQ0tN.")
    assert [reference.value for reference in loaded.references] == ["a", "b"]


DAMAGED = {
    "no opcode": b"\xff.",
    "nothing to return": b".",
    "an empty stack": b"a.",
    "no mark": b"t.",
    "a tuple of too few": b"\x87.",
    "an unknown memo": b"h\x05.",
    "a memo of no number": b"gx\n.",
    "a number of no digits": b"Ix\n.",
    "a number of too many digits": b"I" + b"1" * 5000 + b"\n.",
    "a float of no digits": b"Fx\n.",
    "a string without quotes": b"Sabc\n.",
    "a string with one quote": b"S'\n.",
    "text that is not UTF-8": b"X\x01\0\0\0\xff.",
    "an odd number of items": b"}(Nu.",
    "items of a list": b"](NNu.",
    "elements of a dictionary": b"}Na.",
    "elements of a tuple": b")Na.",
    "a state for a list": b"]Nb.",
    "a state twice": b"cm\nn\n)RI1\nbI2\nb.",
    "a call without arguments": b"cm\nn\nNR.",
    "a call with a list": b"cm\nn\n]R.",
    "a class of no name": b"\x80\x04NN\x93.",
    "a class with a line break": b"\x80\x04\x8c\x01a\x8c\x03b\nc\x93.",
    "a class with an escape sequence": b"\x80\x04\x8c\x01a\x8c\x04\x1b[2J\x93.",
    "a class with a name of a megabyte": b"c" + b"x" * 2**20 + b"\nn\n.",
    "a protocol to come": b"\x80\x06N.",
    "a number of a megabyte": b"\x8b" + struct.pack("<i", 2**20) + bytes(2**20) + b".",
    "a negative length": b"\x8b" + struct.pack("<i", -1) + b".",
    "a negative string": b"T" + struct.pack("<i", -1) + b".",
    "the extension registry": b"\x80\x02\x82\x01.",
    "a wide extension": b"\x80\x02\x84\0\0\0\1.",
    "a buffer from outside": b"\x80\x05\x97.",
    "a read-only buffer": b"\x80\x05N\x98.",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_no_pickle_says_is_refused(name):
    with pytest.raises(UnreadableModel):
        load(DAMAGED[name])


BUDGETS = {
    "opcodes": (b"N0" * 60 + b"N.", "MAX_OPCODES", 100),
    "containers": (b"(" + b"]" * 101 + b"l.", "MAX_CONTAINERS", 100),
    "pairs that a dictionary takes over": (
        b"ccollections\nOrderedDict\n(](" + b"NN\x86" * 30 + b"etR" + b".",
        "MAX_CONTAINERS",
        40,
    ),
    "memo": (b"N" + b"".join(b"q%c" % i for i in range(101)) + b".", "MAX_MEMO", 100),
    "memo, numbered anyhow": (
        b"N" + b"".join(b"q%c" % (i + 9) for i in range(101)) + b".",
        "MAX_MEMO",
        100,
    ),
    "nesting": (b"(" * 101 + b"t" * 101 + b".", "MAX_NESTING", 100),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets(name, monkeypatch):
    data, budget, most = BUDGETS[name]
    load(data)
    owner = pickle_machine if hasattr(pickle_machine, budget) else pickle_state
    monkeypatch.setattr(owner, budget, most)
    with pytest.raises(UnreadableModel, match=r"over \d+"):
        load(data)


def test_noise_is_refused_or_read_but_never_crashes():
    noise = random.Random(0)
    for _ in range(3000):
        data = bytes(noise.choices(range(256), k=noise.randrange(1, 60))) + b"."
        try:
            load(data)
        except UnreadableModel:
            continue
