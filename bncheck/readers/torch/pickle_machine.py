"""A symbolic pickle machine: it interprets opcodes into inert values and runs nothing.

Classes and functions that a pickle names become ``Global``, calls become ``Instance``; nothing is
imported, called, compared or hashed, and dictionaries stay lists of pairs. Python's own unpickler,
even with harmless stand-ins, can be made to crash or to fill the memory; here every loop ends by
the input or by a budget.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from bncheck.errors import UnreadableModel
from bncheck.readers.torch.pickle_opcodes import TABLE
from bncheck.readers.torch.pickle_state import State, Truncated
from bncheck.readers.torch.pickle_values import PersistentId, Value

MAX_OPCODES = 4_000_000
MAX_PICKLE = 256 * 2**20  # bytes
STOP = ord(".")


class Loaded(NamedTuple):
    """A pickle's value, the offset behind it, and all that it refers to outside."""

    value: Value
    end: int
    references: list[PersistentId]


def load(data: bytes, start: int = 0) -> Loaded:
    """The value of the pickle at ``start``.

    Raises UnreadableModel where the pickle is damaged, over budget, or uses what no model needs
    (the extension registry, out-of-band buffers); Truncated where it has no end.
    """
    state, at = State(data), start
    try:
        for _ in range(MAX_OPCODES):
            opcode = data[at]
            if opcode == STOP:
                return Loaded(state.stack.pop(), at + 1, state.references)
            at = TABLE[opcode](state, at + 1)
    except struct.error:
        raise Truncated from None
    except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
        if at + 1 >= len(data):  # the end, or a last opcode whose argument would lie behind it
            raise Truncated from None
        raise UnreadableModel(f"pickle is damaged at byte {at}") from error
    raise UnreadableModel(f"pickle has over {MAX_OPCODES} opcodes")
