"""What following the code writes down: operations in order, and which tensor is which.

An operator that changes a tensor in place gives a new value that takes the old one's place. Other
views of the same memory become what an opaque operation makes of both, once they are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bncheck.readers.aten.call import Argument, Value, values
from bncheck.readers.torchscript.program import Unclear
from bncheck.readers.torchscript.values import DEEPEST, Data, Heap, Runtime, Stored, words

MOST_RECORDS = 20_000
LONGEST_NAME = 300  # characters
# What may give back the memory that it was given, or a part of it.
VIEWS = words(
    "alias chunk contiguous data detach diagonal dropout expand expand_as feature_dropout flatten "
    "alpha_dropout feature_alpha_dropout movedim narrow numpy_T mT permute reshape reshape_as "
    "select slice split split_with_sizes squeeze swapaxes swapdims t tensor_split to transpose "
    "type_as unbind unflatten unfold unsqueeze view view_as"
)
CHANGED_THROUGH_A_VIEW, SIZE = "prim.view", "aten.size"


@dataclass(frozen=True, slots=True)
class Owner:
    """The module in whose method something happens, by identity and qualified name."""

    identity: int
    path: str


@dataclass(slots=True, eq=False)
class Record:
    """An operation, and the module that it is part of.

    ``outputs`` are by index; under None there is one name for all of them together.
    """

    op: str
    positional: Sequence[Argument]
    named: Mapping[str, Argument]
    owner: Owner | None = None
    outputs: dict[object, str] = field(default_factory=dict)

    @property
    def reads(self) -> Iterator[str]:
        """The names of all values that it takes."""
        return values([*self.positional, *self.named.values()])


class Tape:
    """The operations so far. ``inputs`` are the values that a caller gives."""

    def __init__(self, heap: Heap) -> None:
        self.records: list[Record] = []
        self.inputs: list[str] = []
        self._heap = heap
        self._taken: set[str] = set()
        self._copies: Counter[str] = Counter()
        self._makers: dict[str, Record] = {}
        self._roots: dict[str, str] = {}
        self._family: dict[str, list[str]] = {}  # by root: all values that may share its memory
        self._born: dict[str, int] = {}  # after how many operations a value came to be
        self._shapes: dict[str, str] = {}
        self._given: dict[str, Data] = {}  # items of what a caller gives

    def give(self, name: str) -> Data:
        """A new value that a caller gives."""
        data = Data(self.unique(name))
        self.inputs.append(data.name)
        return data

    def write(self, record: Record, hint: str) -> Data:
        """Add an operation; its result, which stands for all its outputs."""
        self._heap.budget.spend(1 + sum(1 for _ in record.reads))
        self.add(record)
        return self.output(record, None, hint)

    def add(self, record: Record) -> None:
        """Add an operation whose outputs are already named."""
        if len(self.records) == MOST_RECORDS:
            raise Unclear(f"the graph has over {MOST_RECORDS:,} operations")
        self.records.append(record)

    def gather(self, op: str, parts: Sequence[Runtime], owner: Owner | None = None) -> Data:
        """What an operator that is not followed makes of some values."""
        reads = [Value(self.latest(each.name)) for each in parts if isinstance(each, Data | Stored)]
        return self.write(Record(op, reads, {}, owner), op.rpartition(".")[2])

    def output(self, record: Record, key: object, hint: str) -> Data:
        """One output of an operation."""
        if key not in record.outputs:
            name = self.unique(hint)
            record.outputs[key] = name
            self._makers[name] = record
            self._born[name] = self._born.get(record.outputs[None], self._next_birth(record))
        return Data(record.outputs[key])

    def item(self, data: Data, key: int | str) -> Data:
        """One of the tensors that a value stands for."""
        hint = f"{data.name}.{key}"
        record = self._makers.get(data.name)
        if record is not None:
            item = self.output(record, (data.name, key), hint)
        else:
            item = self._given.get(hint) or self.give(hint)
            self._given[hint] = item
        self.relate(item.name, data.name)
        return item

    def shape_of(self, name: str) -> str:
        """The value that stands for a tensor's shape."""
        if name not in self._shapes:
            record = Record(SIZE, [Value(name)], {})
            self._shapes[name] = self.write(record, f"{name}:size").name
        return self._shapes[name]

    def relate(self, view: str, source: str) -> None:
        """Take note that two values may share memory."""
        if view not in self._roots:
            root = self._roots[view] = self._roots.get(source, source)
            self._family.setdefault(root, [root]).append(view)

    def change(self, old: str, new: str) -> None:
        """Let a value take the place of another, which was changed in place."""
        family = self._family.get(self._roots.get(old, old), [])
        self._heap.budget.spend(len(family))
        for member in family:
            if member not in (old, new) and member not in self._heap:
                self._heap[_stale(member)] = Data(new)
        self.relate(new, old)
        self._heap[old] = Data(new)

    def latest(self, name: str) -> str:
        """The value that a tensor has by now."""
        first, hops = name, 0
        while name in self._heap:
            name = self._heap[name].name
            hops += 1
        if hops > 1:  # the next time it is one
            self._heap.budget.spend(hops)
            self._heap[first] = Data(name)
        if _stale(name) not in self._heap:
            return name
        changed = self._heap[_stale(name)].name
        reads = [Value(name), Value(self.latest(changed))]
        renewed = self.write(Record(CHANGED_THROUGH_A_VIEW, reads, {}), name)
        self._heap[name] = renewed
        self.relate(renewed.name, name)
        return renewed.name

    def settled(self, value: Runtime, depth: int = 0) -> Runtime:
        """A value with the names that its tensors have by now; containers are left alone."""
        if isinstance(value, Data | Stored):
            name = self.latest(value.name)
            changed = name != value.name
            return Data(name, getattr(value, "optional", False)) if changed else value
        if isinstance(value, tuple) and depth < DEEPEST:
            self._heap.budget.spend(len(value))
            return tuple(self.settled(item, depth + 1) for item in value)
        return value

    def forget(self, position: int) -> None:
        """Take back the operations since there were so many."""
        records = self.records[position:]
        gone = {name for record in records for name in record.outputs.values()}
        for name in gone:
            self._makers.pop(name, None)
        for name in (name for record in records if record.op == SIZE for name in record.reads):
            self._shapes.pop(name, None)
        for root in {self._roots.pop(name) for name in gone if name in self._roots}:
            self._family[root] = [name for name in self._family[root] if name not in gone]
        del self.records[position:]

    def _next_birth(self, record: Record) -> int:
        """The number of operations with that of a new value, whether it is written yet or not."""
        written = bool(self.records) and self.records[-1] is record
        return len(self.records) + (not written)

    def is_new(self, key: object, position: int) -> bool:
        """Whether a key of the heap is about a value that came after so many operations."""
        name = stale_name(key) or key
        return isinstance(name, str) and self._born.get(name, 0) > position

    def unique(self, hint: str) -> str:
        """A name that nothing has yet."""
        name = hint = hint[:LONGEST_NAME]
        while name in self._taken:
            self._copies[hint] += 1
            name = f"{hint}#{self._copies[hint] + 1}"
        self._taken.add(name)
        return name


_STALE = "stale"


def _stale(name: str) -> tuple[str, str]:
    """The key under which the heap has what changed a value's memory."""
    return (_STALE, name)


def stale_name(key: object) -> str | None:
    """The value that such a key is about; None for other keys."""
    return key[1] if isinstance(key, tuple) and key[0] == _STALE else None
