"""A symbolic pickle machine: it interprets opcodes into inert values and runs nothing.

Classes and functions that a pickle names become ``Global``, calls become ``Instance``; nothing is
imported, called, compared or hashed, and dictionaries stay lists of pairs. Python's own unpickler,
even with harmless stand-ins, can be made to crash or to fill the memory; here every loop ends by
the input or by a budget. Opcodes: the documentation in CPython's Lib/pickletools.py.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bncheck.errors import UnreadableModel
from bncheck.readers.torch.pickle_values import Dict, Global, Instance, PersistentId, Set, Value

T = TypeVar("T")

MAX_OPCODES = 4_000_000
MAX_CONTAINERS = 1_000_000
MAX_MEMO = 1_000_000
MAX_NESTING = 10_000
MAX_PICKLE = 256 * 2**20  # bytes
MAX_INTEGER = 1024  # bytes
MAX_CLASS_NAME = 1024  # characters
# They take over the pairs of their last argument, as these are at the time of the call.
COPIERS = frozenset(
    [
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
        ("builtins", "dict"),
        ("__builtin__", "dict"),
        ("copyreg", "_reconstructor"),
        ("copy_reg", "_reconstructor"),
    ]
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A pickle's value, the offset behind it, and all that it refers to outside."""

    value: Value
    end: int
    references: list[PersistentId]


class Truncated(UnreadableModel):
    """A pickle that goes on behind the end of the data."""

    def __init__(self) -> None:
        super().__init__("pickle ends too early: truncated download, or damaged")


def load(data: bytes, start: int = 0) -> Loaded:
    """The value of the pickle at ``start``.

    Raises UnreadableModel where the pickle is damaged, over budget, or uses what no model needs
    (the extension registry, out-of-band buffers); Truncated where it has no end.
    """
    machine = _Machine(data, start)
    try:
        return machine.run()
    except UnreadableModel:
        raise
    except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise UnreadableModel(f"pickle is damaged at byte {machine.position}") from error


class _Machine:
    def __init__(self, data: bytes, start: int) -> None:
        self.data = data
        self.position = start
        self.stack: list[Value] = []
        self.marks: list[list[Value]] = []
        self.memo: dict[int, Value] = {}
        self.containers = 0
        self.references: list[PersistentId] = []

    def run(self) -> Loaded:
        data, size, table = self.data, len(self.data), _TABLE
        for _ in range(MAX_OPCODES):
            if self.position >= size:
                raise Truncated
            opcode = data[self.position]
            self.position += 1
            if opcode == 0x2E:  # STOP
                return Loaded(self.stack.pop(), self.position, self.references)
            table[opcode](self)
        raise UnreadableModel(f"pickle has over {MAX_OPCODES} opcodes")

    # Arguments

    def take(self, length: int) -> bytes:
        end = self.position + length
        if length < 0 or end > len(self.data):
            raise Truncated
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, layout: struct.Struct) -> int:
        end = self.position + layout.size
        if end > len(self.data):
            raise Truncated
        (value,) = layout.unpack_from(self.data, self.position)
        self.position = end
        return int(value)

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise Truncated
        taken = self.data[self.position : end]
        self.position = end + 1
        return taken

    def text(self, length: int) -> str:
        return self.take(length).decode("utf-8", "surrogatepass")

    # Stack

    def push(self, value: Value) -> None:
        self.stack.append(value)

    def push_container(self, value: Value) -> None:
        self.charge(1)
        self.stack.append(value)

    def charge(self, containers: int) -> None:
        self.containers += containers
        if self.containers > MAX_CONTAINERS:
            raise UnreadableModel(f"pickle holds over {MAX_CONTAINERS} objects")

    def push_mark(self) -> None:
        if len(self.marks) == MAX_NESTING:
            raise UnreadableModel(f"pickle is nested over {MAX_NESTING} deep")
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Value]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]
        if len(self.memo) > MAX_MEMO:
            raise UnreadableModel(f"pickle remembers over {MAX_MEMO} values")

    # Objects

    def call(self, called: Value, args: Value) -> None:
        if not isinstance(args, tuple):
            raise UnreadableModel("pickle calls something without a tuple of arguments")
        made = Instance(called, args)
        if args and isinstance(called, Global) and (called.module, called.name) in COPIERS:
            made.pairs = self.copied(args[-1])
        self.push_container(made)

    def copied(self, source: Value) -> Sequence[tuple[Value, Value]]:
        items = source.pairs if isinstance(source, Dict) else source
        if not isinstance(items, list) or not all(map(_is_pair, items)):
            return ()
        self.charge(len(items))
        return [(key, value) for key, value in items]

    def name(self, module: Value, name: Value) -> None:
        for part in (module, name):
            if not isinstance(part, str) or len(part) > MAX_CLASS_NAME or not part.isprintable():
                raise UnreadableModel("pickle names a class by something that is no name")
        self.push_container(Global(module, name))

    def refer(self, value: Value) -> None:
        reference = PersistentId(value)
        self.references.append(reference)
        self.push_container(reference)

    def build(self, state: Value) -> None:
        target = self.stack[-1]
        if not isinstance(target, Instance) or target.state is not None:
            raise UnreadableModel("pickle gives a state to something that takes none")
        target.state = state

    def extend(self, items: list[Value]) -> None:
        target = self.stack[-1]
        if isinstance(target, Instance | Set):
            target.elements = _extended(target.elements, items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise UnreadableModel("pickle appends to something that takes no elements")

    def set_items(self, items: list[Value]) -> None:
        target = self.stack[-1]
        if not isinstance(target, Dict | Instance) or len(items) % 2:
            raise UnreadableModel("pickle sets items of something that has none")
        self.charge(len(items) // 2)
        target.pairs = _extended(target.pairs, list(zip(items[::2], items[1::2], strict=True)))


def _is_pair(value: Value) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _extended(sequence: Sequence[T], items: list[T]) -> Sequence[T]:
    """The sequence with the items at its end; only an empty one is not a list yet."""
    if isinstance(sequence, list):
        sequence.extend(items)
        return sequence
    return items


Handler = Callable[[_Machine], None]
_U1, _U2, _U4, _U8 = map(struct.Struct, ("<B", "<H", "<I", "<Q"))
_I4, _BIG_ENDIAN_FLOAT = struct.Struct("<i"), struct.Struct(">d")


def _unknown(m: _Machine) -> None:
    raise UnreadableModel(f"pickle is damaged: byte {m.data[m.position - 1]:#04x} is no opcode")


def _refused(what: str) -> Handler:
    def refuse(m: _Machine) -> None:
        raise UnreadableModel(f"pickle uses {what}, which no model needs")

    return refuse


def _constant(value: Value) -> Handler:
    return lambda m: m.stack.append(value)


def _sized_text(layout: struct.Struct) -> Handler:
    return lambda m: m.push(m.text(m.number(layout)))


def _sized_bytes(layout: struct.Struct) -> Handler:
    return lambda m: m.push(m.take(m.number(layout)))


def _sized_python2_string(layout: struct.Struct) -> Handler:
    return lambda m: m.push(_python2_text(m.take(m.number(layout))))


def _sized_integer(layout: struct.Struct) -> Handler:
    def push(m: _Machine) -> None:
        length = m.number(layout)
        if length > MAX_INTEGER:
            raise UnreadableModel(f"pickle holds a number of {length} bytes")
        m.push(int.from_bytes(m.take(length), "little", signed=True))

    return push


def _integer(layout: struct.Struct) -> Handler:
    return lambda m: m.push(m.number(layout))


def _put(layout: struct.Struct) -> Handler:
    return lambda m: m.remember(m.number(layout))


def _get(layout: struct.Struct) -> Handler:
    return lambda m: m.push(m.memo[m.number(layout)])


def _python2_text(raw: bytes) -> str:
    """Python 2's str held text or bytes; latin-1 keeps any byte."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _protocol(m: _Machine) -> None:
    version = m.number(_U1)
    if version > 5:
        raise UnreadableModel(f"pickle has protocol {version}; the newest known is 5")


def _frame(m: _Machine) -> None:
    if m.number(_U8) > len(m.data) - m.position:
        raise Truncated


def _pop(m: _Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()


def _pop_mark(m: _Machine) -> None:
    m.pop_mark()


def _integer_line(m: _Machine) -> None:
    text = m.line()
    m.push({b"00": False, b"01": True}[text] if text in (b"00", b"01") else int(text))


def _string_line(m: _Machine) -> None:
    quoted = m.line().strip()
    if len(quoted) < 2 or quoted[0] != quoted[-1] or quoted[:1] not in (b"'", b'"'):
        raise UnreadableModel("pickle holds a string without quotes")
    m.push(_python2_text(codecs.escape_decode(quoted[1:-1])[0]))


def _small_tuple(length: int) -> Handler:
    def build(m: _Machine) -> None:
        items = tuple(m.stack[-length:])
        if len(items) < length:
            raise IndexError
        del m.stack[-length:]
        m.push_container(items)

    return build


def _dict(m: _Machine) -> None:
    items = m.pop_mark()
    m.push_container(Dict())
    m.set_items(items)


def _append(m: _Machine) -> None:
    value = m.stack.pop()
    m.extend([value])


def _set_item(m: _Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.set_items([key, value])


def _global_line(m: _Machine) -> None:
    m.name(m.line().decode(), m.line().decode())


def _stack_global(m: _Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    m.name(module, name)


def _reduce(m: _Machine) -> None:
    args, called = m.stack.pop(), m.stack.pop()
    m.call(called, args)


def _new_with_keywords(m: _Machine) -> None:
    _, args, called = m.stack.pop(), m.stack.pop(), m.stack.pop()
    m.call(called, args)


def _inst(m: _Machine) -> None:
    m.name(m.line().decode(), m.line().decode())
    called = m.stack.pop()
    m.call(called, tuple(m.pop_mark()))


def _obj(m: _Machine) -> None:
    called, *args = m.pop_mark()
    m.call(called, tuple(args))


def _build(m: _Machine) -> None:
    m.build(m.stack.pop())


HANDLERS: dict[str, Handler] = {
    "(": lambda m: m.push_mark(),
    "0": _pop,
    "1": _pop_mark,
    "2": lambda m: m.push(m.stack[-1]),
    "F": lambda m: m.push(float(m.line())),
    "I": _integer_line,
    "J": _integer(_I4),
    "K": _integer(_U1),
    "L": lambda m: m.push(int(m.line().rstrip(b"L"))),
    "M": _integer(_U2),
    "N": _constant(None),
    "P": lambda m: m.refer(m.line().decode()),
    "Q": lambda m: m.refer(m.stack.pop()),
    "R": _reduce,
    "S": _string_line,
    "T": _sized_python2_string(_I4),
    "U": _sized_python2_string(_U1),
    "V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    "X": _sized_text(_U4),
    "a": _append,
    "b": _build,
    "c": _global_line,
    "d": _dict,
    "}": lambda m: m.push_container(Dict()),
    "e": lambda m: m.extend(m.pop_mark()),
    "g": lambda m: m.push(m.memo[int(m.line())]),
    "h": _get(_U1),
    "i": _inst,
    "j": _get(_U4),
    "l": lambda m: m.push_container(m.pop_mark()),
    "]": lambda m: m.push_container([]),
    "o": _obj,
    "p": lambda m: m.remember(int(m.line())),
    "q": _put(_U1),
    "r": _put(_U4),
    "s": _set_item,
    "t": lambda m: m.push_container(tuple(m.pop_mark())),
    ")": _constant(()),
    "u": lambda m: m.set_items(m.pop_mark()),
    "G": lambda m: m.push(_BIG_ENDIAN_FLOAT.unpack(m.take(8))[0]),
    "B": _sized_bytes(_U4),
    "C": _sized_bytes(_U1),
    "\x80": _protocol,
    "\x81": _reduce,  # NEWOBJ: the same two values, and the same meaning here
    "\x82": _refused("the extension registry"),
    "\x83": _refused("the extension registry"),
    "\x84": _refused("the extension registry"),
    "\x85": _small_tuple(1),
    "\x86": _small_tuple(2),
    "\x87": _small_tuple(3),
    "\x88": _constant(True),
    "\x89": _constant(False),
    "\x8a": _sized_integer(_U1),
    "\x8b": _sized_integer(_I4),
    "\x8c": _sized_text(_U1),
    "\x8d": _sized_text(_U8),
    "\x8e": _sized_bytes(_U8),
    "\x8f": lambda m: m.push_container(Set([])),
    "\x90": lambda m: m.extend(m.pop_mark()),
    "\x91": lambda m: m.push_container(Set(m.pop_mark())),
    "\x92": _new_with_keywords,
    "\x93": _stack_global,
    "\x94": lambda m: m.remember(len(m.memo)),
    "\x95": _frame,
    "\x96": _sized_bytes(_U8),
    "\x97": _refused("out-of-band buffers"),
    "\x98": _refused("out-of-band buffers"),
}


_TABLE: list[Handler] = [HANDLERS.get(chr(opcode), _unknown) for opcode in range(256)]
