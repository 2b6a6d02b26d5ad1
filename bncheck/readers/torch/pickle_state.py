"""What a symbolic pickle machine works on: its stack, its memo, and the inert values it makes.

Picklers number what they remember from 0 on, so that a list holds it; whatever is numbered
otherwise goes into a dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from bncheck.errors import UnreadableModel
from bncheck.readers.torch.pickle_values import Dict, Global, Instance, PersistentId, Set, Value

T = TypeVar("T")

MAX_CONTAINERS = 1_000_000
MAX_MEMO = 1_000_000
MAX_NESTING = 10_000
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


class Truncated(UnreadableModel):
    """A pickle that goes on behind the end of the data."""

    def __init__(self) -> None:
        super().__init__("pickle ends too early: truncated download, or damaged")


class State:
    """The state between two opcodes; what is not there raises IndexError or KeyError."""

    __slots__ = ("containers", "data", "marks", "memo", "references", "scattered", "stack")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.stack: list[Value] = []
        self.marks: list[list[Value]] = []
        self.memo: list[Value] = []
        self.scattered: dict[int, Value] = {}
        self.containers = 0
        self.references: list[PersistentId] = []

    # Arguments

    def bytes_at(self, begin: int, length: int) -> bytes:
        """So many bytes of the pickle. Raises Truncated where they are not all there."""
        if length < 0 or begin + length > len(self.data):
            raise Truncated
        return self.data[begin : begin + length]

    def line_at(self, begin: int) -> tuple[bytes, int]:
        """A line without its end, and the offset behind it. Raises Truncated."""
        end = self.data.find(b"\n", begin)
        if end < 0:
            raise Truncated
        return self.data[begin:end], end + 1

    # Stack and memo

    def push_container(self, value: Value) -> None:
        """Push what takes memory of its own. Raises UnreadableModel where it is too much."""
        self.containers += 1
        if self.containers > MAX_CONTAINERS:
            self.charge(0)
        self.stack.append(value)

    def charge(self, containers: int) -> None:
        """Account for objects. Raises UnreadableModel where there are too many."""
        self.containers += containers
        if self.containers > MAX_CONTAINERS:
            raise UnreadableModel(f"pickle holds over {MAX_CONTAINERS} objects")

    def push_mark(self) -> None:
        """Begin a new stack. Raises UnreadableModel where there are too many."""
        if len(self.marks) == MAX_NESTING:
            raise UnreadableModel(f"pickle is nested over {MAX_NESTING} deep")
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Value]:
        """The values since the last mark, which are taken off."""
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def remember(self, index: int) -> None:
        """Note the uppermost value. Raises UnreadableModel where there are too many."""
        if index == len(self.memo) < MAX_MEMO and not self.scattered:
            self.memo.append(self.stack[-1])
        elif 0 <= index < len(self.memo):
            self.memo[index] = self.stack[-1]
        else:
            self._scatter(index)

    def _scatter(self, index: int) -> None:
        self.scattered[index] = self.stack[-1]
        if self.remembered > MAX_MEMO:
            raise UnreadableModel(f"pickle remembers over {MAX_MEMO} values")

    @property
    def remembered(self) -> int:
        """How many values are noted."""
        return len(self.memo) + len(self.scattered)

    def recall(self, index: int) -> None:
        """Push a value that was noted."""
        memo = self.memo
        self.stack.append(memo[index] if 0 <= index < len(memo) else self.scattered[index])

    # Objects

    def call(self, called: Value, args: Value) -> None:
        """Push what a call would give."""
        if not isinstance(args, tuple):
            raise UnreadableModel("pickle calls something without a tuple of arguments")
        made = Instance(called, args)
        if args and isinstance(called, Global) and (called.module, called.name) in COPIERS:
            made.pairs = self._copied(args[-1])
        self.push_container(made)

    def _copied(self, source: Value) -> Sequence[tuple[Value, Value]]:
        items = source.pairs if isinstance(source, Dict) else source
        if not isinstance(items, list) or not all(map(_is_pair, items)):
            return ()
        self.charge(len(items))
        return [(key, value) for key, value in items]

    def name(self, module: Value, name: Value) -> None:
        """Push a class or function by name."""
        for part in (module, name):
            if not isinstance(part, str) or len(part) > MAX_CLASS_NAME or not part.isprintable():
                raise UnreadableModel("pickle names a class by something that is no name")
        self.push_container(Global(module, name))

    def refer(self, value: Value) -> None:
        """Push a reference to something outside."""
        reference = PersistentId(value)
        self.references.append(reference)
        self.push_container(reference)

    def build(self, state: Value) -> None:
        """Give a state to the uppermost value."""
        target = self.stack[-1]
        if not isinstance(target, Instance) or target.state is not None:
            raise UnreadableModel("pickle gives a state to something that takes none")
        target.state = state

    def extend(self, items: list[Value]) -> None:
        """Append to the uppermost value."""
        target = self.stack[-1]
        if isinstance(target, Instance | Set):
            target.elements = _extended(target.elements, items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise UnreadableModel("pickle appends to something that takes no elements")

    def set_items(self, items: list[Value]) -> None:
        """Set keys and values, in turns, of the uppermost value."""
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
