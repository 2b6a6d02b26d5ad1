"""The two pickles of an archive as they change: its objects, and the constants of its code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bncheck.errors import CannotFold
from bncheck.folding.archives.pickles import encoded
from bncheck.folding.archives.tensors import Content, inside, rebuilt
from bncheck.folding.archives.zipped import Made, Part
from bncheck.readers.torch import pickle_machine
from bncheck.readers.torch.pickle_values import (
    Dict,
    Global,
    Instance,
    PersistentId,
    Value,
    attributes,
)
from bncheck.readers.ziparchive import ZipArchive

CPU = "cpu"


class Pickle:
    """A pickle and the folder of its storages, read once more: readers use up what they read."""

    def __init__(self, archive: ZipArchive, root: str, part: str) -> None:
        self._archive = archive
        self._entry = f"{root}/{part}.pkl"
        self._folder = f"{root}/{part}/"
        data = archive.read(self._entry, pickle_machine.MAX_PICKLE)
        self.value: Value = pickle_machine.load(data).value
        self._before = set(_keys(self.value))
        self._made: dict[str, Content] = {}
        self._is_changed = False

    def object(self, path: str) -> Instance:
        """The module at a qualified name."""
        found: Value = self.value
        for name in path.split(".") if path else ():
            found = attributes(found)[name]
        assert isinstance(found, Instance)
        return found

    def set(self, target: Instance, name: str, value: Value) -> None:
        """Give an object an attribute, in the place of one of the same name."""
        if not isinstance(target.state, Dict):
            raise CannotFold("it holds an object whose state is no dictionary")
        pairs = dict(target.state.pairs)
        pairs[name] = value
        target.state.pairs = [*pairs.items()]
        self._is_changed = True

    def turn(self, target: Instance, class_name: str, keep: Mapping[str, Value]) -> None:
        """Make an object one of another class, with no attributes but these."""
        module, _, name = class_name.rpartition(".")
        target.called = Global(module, name)
        state = Dict()
        state.pairs = [*keep.items()]
        target.state = state
        self._is_changed = True

    def tensor(self, content: Content, like: Value) -> Instance:
        """A new tensor, on the device of another."""
        key = self._new_key()
        self._made[key] = content
        self._is_changed = True
        return rebuilt(key, content, _device(like), _wants_gradient(like))

    def append(self, value: Value) -> int:
        """Add a value to those that the pickle is a tuple of; its position."""
        if not isinstance(self.value, tuple):
            raise CannotFold("its constants are no tuple")
        self.value = (*self.value, value)
        self._is_changed = True
        return len(self.value) - 1

    def replace(self, position: int, value: Value) -> None:
        """Put a value in the place of one of the tuple."""
        items = [*self.value]
        items[position] = value
        self.value = tuple(items)
        self._is_changed = True

    def _new_key(self) -> str:
        number = len(self._archive.entries) + len(self._made)
        while self._archive.has(f"{self._folder}{number}"):
            number += 1
        return str(number)

    def changes(self) -> Mapping[str, Part | None]:
        """What comes in place of entries (None: nothing), and entries that are new, by name."""
        if not self._is_changed:
            return {}
        data = encoded(self.value)
        after = set(_keys(self.value))
        found: dict[str, Part | None] = {self._folder + key: None for key in self._before - after}
        found[self._entry] = Made(self._entry, len(data), lambda: data)
        for key, content in self._made.items():
            if key in after:
                name = self._folder + key
                found[name] = Made(name, content.size, content.make)
        return found


def _keys(value: Value) -> Iterator[str]:
    """The storages that a value refers to."""
    for each in inside([value]):
        if isinstance(each, PersistentId):
            yield each.value[2]


def _wants_gradient(tensor: Value) -> bool:
    return isinstance(tensor, Instance) and tensor.args[4:5] == (True,)


def _device(like: Value) -> str:
    """Where a tensor is."""
    for each in inside([like]):
        if isinstance(each, PersistentId):
            return str(each.value[3])
    return CPU
