"""Writes the inert values of a pickle back as a pickle of protocol 2.

What is shared stays shared. The opcodes are those that PyTorch's own unpicklers take, the one for
TorchScript's archives included.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from bncheck.errors import CannotFold
from bncheck.readers.torch.pickle_values import Dict, Global, Instance, PersistentId, Value

OBJECTS = "__torch__"  # of TorchScript's classes
MOST_VALUES = 4_000_000
PROTO, STOP = b"\x80\x02", b"."
_SHORT_TUPLES = {0: b")", 1: b"\x85", 2: b"\x86", 3: b"\x87"}

Step = Callable[[], None]


def encoded(value: Value) -> bytes:
    """The pickle of a value. Raises CannotFold for what no archive of PyTorch's own holds."""
    writer = _Writer()
    writer.run(value)
    return b"".join((PROTO, *writer.pieces, STOP))


class _Writer:
    """Works off a stack of what is still to be written: values nest as deep as a file says."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._waiting: list[Value | Step] = []
        self._numbers: dict[int | str, int] = {}
        self._alive: list[Value] = []  # so that no two values share an identity

    def run(self, value: Value) -> None:
        self._waiting.append(_Held(value))
        for _ in range(MOST_VALUES):
            if not self._waiting:
                return
            item = self._waiting.pop()
            if isinstance(item, _Held):
                self._value(item.value)
            else:
                item()
        raise CannotFold(f"a pickle of over {MOST_VALUES} values is not written")

    def _put(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def _then(self, *items: object) -> None:
        """What is to be written next, in order: opcodes, steps, or values in _Held."""
        self._waiting.extend(
            _opcode(self._put, item) if isinstance(item, bytes) else item
            for item in reversed(items)
        )

    def _value(self, value: Value) -> None:
        if value is None or isinstance(value, bool | int | float):
            self._put(_plain(value))
        elif isinstance(value, str):
            self._string(value)
        elif self._is_known(value):
            return
        elif isinstance(value, tuple):
            self._tuple(value)
        elif isinstance(value, list):
            self._then(b"]", self._note(value), *_filled(value, b"e"))
        elif isinstance(value, Dict):
            self._then(b"}", self._note(value), *_filled(_flat(value.pairs), b"u"))
        elif isinstance(value, Global):
            self._global(value)
        elif isinstance(value, PersistentId):
            self._then(_Held(value.value), b"Q", self._note(value))
        elif isinstance(value, Instance):
            self._instance(value)
        else:
            raise CannotFold(f"its pickle holds a {type(value).__name__}, which is not written")

    def _is_known(self, value: Value) -> bool:
        number = self._numbers.get(id(value))
        if number is not None:
            self._put(_get(number))
        return number is not None

    def _note(self, value: Value) -> Step:
        def note() -> None:
            self._alive.append(value)
            self._numbers[id(value)] = number = len(self._numbers)
            self._put(_put(number))

        return note

    def _string(self, text: str) -> None:
        if text in self._numbers:
            self._put(_get(self._numbers[text]))
            return
        data = text.encode("utf-8", "surrogatepass")
        self._put(b"X" + struct.pack("<I", len(data)) + data)
        self._numbers[text] = number = len(self._numbers)
        self._put(_put(number))

    def _global(self, value: Global) -> None:
        key = f"\n{value.path}"
        if key in self._numbers:
            self._put(_get(self._numbers[key]))
            return
        self._put(f"c{value.module}\n{value.name}\n".encode())
        self._numbers[key] = number = len(self._numbers)
        self._put(_put(number))

    def _tuple(self, value: tuple[Value, ...]) -> None:
        items = [_Held(item) for item in value]
        short = _SHORT_TUPLES.get(len(value))
        self._then(*items, short) if short else self._then(b"(", *items, b"t")

    def _instance(self, value: Instance) -> None:
        if not isinstance(value.called, Global):
            raise CannotFold("its pickle calls what it makes itself, which is not written")
        if value.is_new is None:
            raise CannotFold(f"its pickle makes a {value.class_path} in a way that is not written")
        made = b"\x81" if value.is_new else b"R"
        state = [] if value.state is None else [_Held(value.state), b"b"]
        filled = [*_filled(value.elements, b"e"), *_filled(_flat(value.pairs), b"u")]
        note = self._note(value)
        # what TorchScript reads is put down once it is complete
        is_complete_first = value.called.module.split(".")[0] == OBJECTS
        rest = [*filled, *state, note] if is_complete_first else [note, *filled, *state]
        self._then(_Held(value.called), _Held(value.args), made, *rest)


class _Held:
    """A value that is still to be written."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value


def _opcode(put: Callable[[bytes], None], opcode: bytes) -> Step:
    return lambda: put(opcode)


def _filled(items: Iterable[Value], opcode: bytes) -> list[object]:
    held: list[object] = [_Held(item) for item in items]
    return [b"(", *held, opcode] if held else []


def _flat(pairs: Iterable[tuple[Value, Value]]) -> list[Value]:
    return [item for pair in pairs for item in pair]


def _get(number: int) -> bytes:
    return b"h" + bytes([number]) if number < 256 else b"j" + struct.pack("<I", number)


def _put(number: int) -> bytes:
    return b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number)


def _plain(value: Value) -> bytes:
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    return _integer(value)


def _integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if 0 <= value < 1 << 16:
        return b"M" + struct.pack("<H", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(data) > 255:
        raise CannotFold("its pickle holds a number that is too long for any")
    return b"\x8a" + bytes([len(data)]) + data
