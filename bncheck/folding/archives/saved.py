"""Tensors that torch.save wrote, as they change; the rest of what it wrote stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bncheck.errors import CannotFold
from bncheck.folding.archives.pickles import encoded
from bncheck.folding.archives.tensors import Content, inside, ordered, rebuilt
from bncheck.folding.archives.zipped import Copied, Made, Part
from bncheck.readers.torch import pickle_machine, zipped
from bncheck.readers.torch.pickle_values import Dict, Global, Instance, PersistentId, Value, mapping
from bncheck.readers.ziparchive import ZipArchive

PARAMETER = "torch._utils._rebuild_parameter"


class SavedTensors:
    """An archive of torch.save, and a dictionary of tensors by name somewhere in its pickle."""

    def __init__(self, archive: ZipArchive, value: Value, held: Dict | Instance) -> None:
        self._archive = archive
        self._root = zipped.root_of(archive)
        self._value = value
        self._held = held
        self._before = mapping(held) or {}
        self._changed: dict[str, tuple[Value, Content]] = {}
        self._dropped: set[str] = set()
        self.names = {*self._before}

    def put(self, name: str, content: Content) -> None:
        """Give a name a new tensor; one that is new is what its neighbours are."""
        old = self._before.get(name)
        like = next(iter(self._before.values()), None) if old is None else old
        is_parameter = isinstance(like, Instance) and like.class_path == PARAMETER
        tensor = rebuilt(self._new_key(), content, grad=content.grad and not is_parameter)
        made = _parameter(tensor, content.grad, old) if is_parameter else tensor
        self._changed[name] = made, content
        self.names.add(name)

    def _new_key(self) -> str:
        number = len(self._archive.entries) + len(self._changed)
        while f"{self._root}/data/{number}" in self._archive.entries:
            number += 1
        return str(number)

    def drop(self, name: str) -> None:
        """Forget a tensor."""
        if name in self._before:
            self._dropped.add(name)
        self.names.discard(name)

    @property
    def is_changed(self) -> bool:
        """Whether anything is not as it was."""
        return bool(self._changed or self._dropped)

    def parts(self) -> list[Part]:
        """The entries of the new archive. Raises CannotFold for what cannot be written back."""
        if zipped.byteorder(self._archive, self._root) != "little":
            raise CannotFold("its tensors are big-endian: save it again on the machine it is for")
        self._held.pairs = [*self._pairs()]
        return [*self._parts(encoded(self._value))]

    def _parts(self, data: bytes) -> Iterator[Part]:
        kept = {f"{self._root}/data/{key}" for key in _keys([self._value])}
        storages, stale = f"{self._root}/data/", f"{self._root}/.data/serialization_id"
        for name in self._archive.entries:
            if name == f"{self._root}/data.pkl":
                yield Made(name, len(data), lambda: data)
            elif name in kept or not name.startswith((storages, stale)):
                yield Copied(self._archive, name)
        for made, content in self._changed.values():
            (key,) = _keys([made])
            yield Made(f"{self._root}/data/{key}", content.size, content.make)

    def _pairs(self) -> Iterator[tuple[str, Value]]:
        for name, held in self._before.items():
            if name not in self._dropped:
                yield name, self._changed[name][0] if name in self._changed else held
        for name, (made, _) in self._changed.items():
            if name not in self._before:
                yield name, made


def load(archive: ZipArchive) -> Value:
    """The pickle of an archive; one that a reader has looked through is used up."""
    data = archive.read(f"{zipped.root_of(archive)}/data.pkl", pickle_machine.MAX_PICKLE)
    return pickle_machine.load(data).value


def _parameter(tensor: Instance, requires_grad: bool, old: Value) -> Instance:
    wants = old.args[1] if isinstance(old, Instance) and len(old.args) > 1 else requires_grad
    return Instance(Global("torch._utils", "_rebuild_parameter"), (tensor, wants, ordered()))


def _keys(values: Sequence[Value]) -> set[str]:
    """The storages that values refer to."""
    return {each.value[2] for each in inside(values) if isinstance(each, PersistentId)}
