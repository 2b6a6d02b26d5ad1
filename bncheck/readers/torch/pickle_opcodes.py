"""What each opcode of a pickle does to the state of a symbolic machine.

A handler is given the state and the offset behind its opcode; it returns the offset behind its
argument. Opcodes: the documentation in CPython's Lib/pickletools.py.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable

from bncheck.errors import UnreadableModel
from bncheck.readers.torch.pickle_state import State, Truncated
from bncheck.readers.torch.pickle_values import Dict, Set, Value

MAX_INTEGER = 1024  # bytes

Handler = Callable[[State, int], int]
_U1, _U2, _U4, _U8 = map(struct.Struct, ("<B", "<H", "<I", "<Q"))
_I4, _BIG_ENDIAN_FLOAT = struct.Struct("<i"), struct.Struct(">d")


def _simple(act: Callable[[State], object]) -> Handler:
    """An opcode without an argument."""

    def handle(state: State, at: int) -> int:
        act(state)
        return at

    return handle


def _on_line(act: Callable[[State, bytes], object]) -> Handler:
    """An opcode whose argument is a line of text."""

    def handle(state: State, at: int) -> int:
        line, end = state.line_at(at)
        act(state, line)
        return end

    return handle


def _on_number(layout: struct.Struct, act: Callable[[State, int], object]) -> Handler:
    """An opcode whose argument is a number. Beyond the data, unpacking raises struct.error."""
    unpack, size = layout.unpack_from, layout.size

    def handle(state: State, at: int) -> int:
        act(state, unpack(state.data, at)[0])
        return at + size

    return handle


def _on_bytes(layout: struct.Struct, act: Callable[[bytes], Value]) -> Handler:
    """An opcode that pushes what its argument means: a length, and so many bytes."""
    unpack, size = layout.unpack_from, layout.size

    def handle(state: State, at: int) -> int:
        (length,) = unpack(state.data, at)
        state.stack.append(act(state.bytes_at(at + size, length)))
        return at + size + int(length)

    return handle


def _constant(value: Value) -> Handler:
    def push(state: State, at: int) -> int:
        state.stack.append(value)
        return at

    return push


def _number(layout: struct.Struct) -> Handler:
    unpack, size = layout.unpack_from, layout.size

    def push(state: State, at: int) -> int:
        state.stack += unpack(state.data, at)
        return at + size

    return push


def _unknown(state: State, at: int) -> int:
    raise UnreadableModel(f"pickle is damaged: byte {state.data[at - 1]:#04x} is no opcode")


def _refused(what: str) -> Handler:
    def refuse(state: State, at: int) -> int:
        raise UnreadableModel(f"pickle uses {what}, which no model needs")

    return refuse


# Arguments


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _python2_text(raw: bytes) -> str:
    """Python 2's str held text or bytes; latin-1 keeps any byte."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _integer(raw: bytes) -> int:
    if len(raw) > MAX_INTEGER:
        raise UnreadableModel(f"pickle holds a number of {len(raw)} bytes")
    return int.from_bytes(raw, "little", signed=True)


def _protocol(state: State, version: int) -> None:
    if version > 5:
        raise UnreadableModel(f"pickle has protocol {version}; the newest known is 5")


def _frame(state: State, at: int) -> int:
    end = at + _U8.size
    if _U8.unpack_from(state.data, at)[0] > len(state.data) - end:
        raise Truncated
    return end


def _integer_line(state: State, line: bytes) -> None:
    truths = {b"00": False, b"01": True}
    state.stack.append(truths[line] if line in truths else int(line))


def _string_line(state: State, line: bytes) -> None:
    quoted = line.strip()
    if len(quoted) < 2 or quoted[0] != quoted[-1] or quoted[:1] not in (b"'", b'"'):
        raise UnreadableModel("pickle holds a string without quotes")
    state.stack.append(_python2_text(codecs.escape_decode(quoted[1:-1])[0]))


# Stack


def _mark(state: State, at: int) -> int:
    state.push_mark()
    return at


def _pop(state: State) -> None:
    if state.stack:
        state.stack.pop()
    else:
        state.pop_mark()


# The commonest opcodes by far read their argument themselves.


def _put(state: State, at: int) -> int:
    state.remember(_U4.unpack_from(state.data, at)[0])
    return at + 4


def _put_byte(state: State, at: int) -> int:
    state.remember(state.data[at])
    return at + 1


def _get(state: State, at: int) -> int:
    state.recall(_U4.unpack_from(state.data, at)[0])
    return at + 4


def _get_byte(state: State, at: int) -> int:
    state.recall(state.data[at])
    return at + 1


def _push_byte(state: State, at: int) -> int:
    state.stack.append(state.data[at])
    return at + 1


# Objects


def _tuple(state: State, at: int) -> int:
    state.push_container(tuple(state.pop_mark()))
    return at


def _small_tuple(length: int) -> Handler:
    def build(state: State, at: int) -> int:
        items = tuple(state.stack[-length:])
        if len(items) < length:
            raise IndexError
        del state.stack[-length:]
        state.push_container(items)
        return at

    return build


def _dict(state: State) -> None:
    items = state.pop_mark()
    state.push_container(Dict())
    state.set_items(items)


def _append(state: State) -> None:
    value = state.stack.pop()
    state.extend([value])


def _set_item(state: State) -> None:
    value, key = state.stack.pop(), state.stack.pop()
    state.set_items([key, value])


def _global_lines(state: State, at: int) -> int:
    module, at = state.line_at(at)
    name, at = state.line_at(at)
    state.name(module.decode(), name.decode())
    return at


def _stack_global(state: State) -> None:
    name, module = state.stack.pop(), state.stack.pop()
    state.name(module, name)


def _reference(state: State, at: int) -> int:
    state.refer(state.stack.pop())
    return at


def _reduce(state: State, at: int) -> int:
    args, called = state.stack.pop(), state.stack.pop()
    state.call(called, args)
    return at


def _new(state: State, at: int) -> int:
    at = _reduce(state, at)
    state.stack[-1].is_new = True
    return at


def _new_with_keywords(state: State) -> None:
    _, args, called = state.stack.pop(), state.stack.pop(), state.stack.pop()
    state.call(called, args)
    state.stack[-1].is_new = None


def _inst(state: State, at: int) -> int:
    at = _global_lines(state, at)
    called = state.stack.pop()
    state.call(called, tuple(state.pop_mark()))
    state.stack[-1].is_new = None
    return at


def _obj(state: State) -> None:
    called, *args = state.pop_mark()
    state.call(called, tuple(args))
    state.stack[-1].is_new = None


HANDLERS: dict[str, Handler] = {
    "(": _mark,
    "0": _simple(_pop),
    "1": _simple(State.pop_mark),
    "2": _simple(lambda state: state.stack.append(state.stack[-1])),
    "F": _on_line(lambda state, line: state.stack.append(float(line))),
    "I": _on_line(_integer_line),
    "J": _number(_I4),
    "K": _push_byte,
    "L": _on_line(lambda state, line: state.stack.append(int(line.rstrip(b"L")))),
    "M": _number(_U2),
    "N": _constant(None),
    "P": _on_line(lambda state, line: state.refer(line.decode())),
    "Q": _reference,
    "R": _reduce,
    "S": _on_line(_string_line),
    "T": _on_bytes(_I4, _python2_text),
    "U": _on_bytes(_U1, _python2_text),
    "V": _on_line(lambda state, line: state.stack.append(line.decode("raw-unicode-escape"))),
    "X": _on_bytes(_U4, _text),
    "a": _simple(_append),
    "b": _simple(lambda state: state.build(state.stack.pop())),
    "c": _global_lines,
    "d": _simple(_dict),
    "}": _simple(lambda state: state.push_container(Dict())),
    "e": _simple(lambda state: state.extend(state.pop_mark())),
    "g": _on_line(lambda state, line: state.recall(int(line))),
    "h": _get_byte,
    "i": _inst,
    "j": _get,
    "l": _simple(lambda state: state.push_container(state.pop_mark())),
    "]": _simple(lambda state: state.push_container([])),
    "o": _simple(_obj),
    "p": _on_line(lambda state, line: state.remember(int(line))),
    "q": _put_byte,
    "r": _put,
    "s": _simple(_set_item),
    "t": _tuple,
    ")": _constant(()),
    "u": _simple(lambda state: state.set_items(state.pop_mark())),
    "G": _number(_BIG_ENDIAN_FLOAT),
    "B": _on_bytes(_U4, bytes),
    "C": _on_bytes(_U1, bytes),
    "\x80": _on_number(_U1, _protocol),
    "\x81": _new,
    "\x82": _refused("the extension registry"),
    "\x83": _refused("the extension registry"),
    "\x84": _refused("the extension registry"),
    "\x85": _small_tuple(1),
    "\x86": _small_tuple(2),
    "\x87": _small_tuple(3),
    "\x88": _constant(True),
    "\x89": _constant(False),
    "\x8a": _on_bytes(_U1, _integer),
    "\x8b": _on_bytes(_I4, _integer),
    "\x8c": _on_bytes(_U1, _text),
    "\x8d": _on_bytes(_U8, _text),
    "\x8e": _on_bytes(_U8, bytes),
    "\x8f": _simple(lambda state: state.push_container(Set([]))),
    "\x90": _simple(lambda state: state.extend(state.pop_mark())),
    "\x91": _simple(lambda state: state.push_container(Set(state.pop_mark()))),
    "\x92": _simple(_new_with_keywords),
    "\x93": _simple(_stack_global),
    "\x94": _simple(lambda state: state.remember(state.remembered)),
    "\x95": _frame,
    "\x96": _on_bytes(_U8, bytes),
    "\x97": _refused("out-of-band buffers"),
    "\x98": _refused("out-of-band buffers"),
}

TABLE: list[Handler] = [HANDLERS.get(chr(opcode), _unknown) for opcode in range(256)]
