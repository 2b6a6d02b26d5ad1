"""What TorchScript code can name: attributes of objects, constants, functions and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bncheck.readers.torch.pickle_values import Global, Instance, Value
from bncheck.readers.torchscript.containers import Containers
from bncheck.readers.torchscript.objects import Objects, ScriptObject
from bncheck.readers.torchscript.operators import Operators
from bncheck.readers.torchscript.program import Unclear
from bncheck.readers.torchscript.saved import Saved
from bncheck.readers.torchscript.tape import Owner, Tape, stale_name
from bncheck.readers.torchscript.values import (
    UNKNOWN,
    Computed,
    Data,
    Heap,
    Method,
    Named,
    Runtime,
    Stored,
)

CONSTANTS = "CONSTANTS"
LONGEST_PATH = 1000  # characters


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in a run: so many changes, so many operations."""

    position: int
    records: int


class World:
    """The objects, constants and operators that one run of the code deals with.

    ``table`` holds what the code calls CONSTANTS, which are a pickle of their own; ``places`` are
    qualified names of modules by identity; ``stored`` becomes the tensors that are read, by name.
    ``origins`` tells of these which object holds each, under which name; None: CONSTANTS.
    """

    def __init__(
        self, data: Objects, constants: Objects, table: Sequence[Value], places: Mapping[int, str]
    ) -> None:
        self.library = data.library
        self.heap = Heap()
        self.budget = self.heap.budget
        self.tape = Tape(self.heap)
        self.containers = Containers(self.heap, self.tape)
        self.operators = Operators(self.heap, self.tape, self.containers)
        self.stored: dict[str, Stored] = {}
        self.origins: dict[str, tuple[ScriptObject | None, str]] = {}
        self._objects = data
        self._data = Saved(data, self.tape, self.containers, self.stored, self.budget)
        self._constants = Saved(constants, self.tape, self.containers, self.stored, self.budget)
        self._table = table
        self._places = places
        self._read: dict[tuple[object, str], Runtime] = {}

    def owner(self, target: ScriptObject) -> Owner | None:
        """The module that an object is, None for other objects."""
        path = self._places.get(target.identity)
        return None if path is None else Owner(target.identity, path)

    def attribute(self, target: Runtime, name: str) -> Runtime:
        """``target.name``. Raises Unclear where that cannot be told."""
        if isinstance(target, Named):
            return self._constant(name) if target.path == CONSTANTS else _named(target, name)
        if isinstance(target, ScriptObject):
            return self._of_object(target, name)
        if isinstance(target, Computed):
            return target
        return Method(target, name)

    def set_attribute(self, target: Runtime, name: str, value: Runtime) -> None:
        """``target.name = value``."""
        if not isinstance(target, ScriptObject):
            raise Unclear("an attribute is set of something that is no object")
        self.heap[(target, name)] = value

    def initial(self, target: ScriptObject, name: str) -> Runtime:
        """An attribute as it was saved."""
        if (target, name) not in self._read:
            place = self._places.get(target.identity)
            prefix = f"{target.class_name}()" if place is None else place
            held = self._saved(target, name)
            path = f"{prefix}.{name}" if prefix else name
            self._read[target, name] = self._data.value(held, path)
            self._note_origin(self._read[target, name], target, name)
        return self._read[target, name]

    def _note_origin(self, value: Runtime, target: ScriptObject | None, name: str) -> None:
        if isinstance(value, Stored):
            self.origins[value.name] = (target, name)

    def mark(self) -> Mark:
        """The present, for ``changes``, ``undo`` and ``forget``."""
        return Mark(self.heap.position, len(self.tape.records))

    def changes(self, since: Mark) -> dict[object, Runtime]:
        """What was changed that was there before, as it is now, by key of the heap."""
        for key in self.heap.changes(since.position):
            self.tape.latest(stale_name(key) or "")
        keys = self.heap.changes(since.position)
        old = (key for key in keys if not self.tape.is_new(key, since.records))
        return {key: self.present(key) for key in old if stale_name(key) is None}

    def undo(self, since: Mark) -> None:
        """Take back all changes to what was there before."""
        self.heap.undo(since.position, lambda key: self.tape.is_new(key, since.records))

    def forget(self, since: Mark) -> None:
        """Take back all changes, and what was written down."""
        self.undo(since)
        self.tape.forget(since.records)

    def present(self, key: object) -> Runtime:
        """What the heap has under a key, or what was there from the beginning."""
        if isinstance(key, str):
            return Data(self.tape.latest(key))
        if key in self.heap:
            return self.heap[key]
        if isinstance(key, tuple):
            return self.initial(*key)
        raise Unclear("something is changed that is not there")

    def change(self, key: object, value: Runtime) -> None:
        """Change what the heap has under a key; a str is the name of a tensor."""
        if not isinstance(key, str):
            self.heap[key] = value
        elif value.name != key:
            self.tape.relate(value.name, key)
            self.heap[key] = value

    def new(self, class_name: str) -> ScriptObject:
        """An object whose attributes are still to be set."""
        module, _, name = class_name.rpartition(".")
        made = self._objects.object(Instance(Global(module, name), ()))
        self.heap[made] = True
        return made

    def _saved(self, target: ScriptObject, name: str) -> Value:
        if name in target.held:
            return target.held[name]
        constants = target.script_class.constants if target.script_class else {}
        if name in constants:
            return constants[name]
        raise Unclear(f"an object has no attribute {name!r}")

    def _of_object(self, target: ScriptObject, name: str) -> Runtime:
        if (target, name) in self.heap:
            return self.heap[(target, name)]
        known = target.script_class
        if name in target.held or (known and name in known.constants):
            return self.initial(target, name)
        if target.is_sealed and known and name not in known.methods:
            return UNKNOWN
        return Method(target, name)

    def _constant(self, name: str) -> Runtime:
        index = int(name[1:]) if name[:1] == "c" and name[1:].isdecimal() and len(name) < 10 else -1
        if not 0 <= index < len(self._table):
            raise Unclear(f"the archive has no constant {name!r}")
        key = (CONSTANTS, name)
        if key not in self._read:
            self._read[key] = self._constants.value(self._table[index], f"{CONSTANTS}.{name}")
            self._note_origin(self._read[key], None, name)
        return self._read[key]


def _named(target: Named, name: str) -> Named:
    if len(target.path) + len(name) > LONGEST_PATH:
        raise Unclear(f"a name has over {LONGEST_PATH} characters")
    return Named(f"{target.path}.{name}")
