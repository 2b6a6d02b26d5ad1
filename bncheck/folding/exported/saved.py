"""Tensors that torch.save wrote into one entry of an archive, as they change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from bncheck.errors import CannotFold
from bncheck.folding.archives.pickles import encoded
from bncheck.folding.archives.tensors import Content, inside, ordered, rebuilt
from bncheck.folding.archives.zipped import Copied, Made, Part, Streamed, size_of, written
from bncheck.readers.exported.weights import EntrySource
from bncheck.readers.torch import pickle_machine, zipped
from bncheck.readers.torch.pickle_values import Dict, Global, Instance, PersistentId, Value, mapping
from bncheck.readers.ziparchive import ZipArchive

REBUILD = "torch._utils._rebuild_tensor_v2"
PARAMETER = "torch._utils._rebuild_parameter"
KNOWN = frozenset(
    {REBUILD, PARAMETER, "torch._utils._rebuild_tensor", "collections.OrderedDict", "torch.Size"}
)


class Saved:
    """An entry that torch.save wrote: a zip archive in the archive, of a pickle and storages."""

    def __init__(self, archive: ZipArchive, entry: str) -> None:
        self._entry = entry
        self._outer = archive
        self._changed: dict[str, tuple[Value, Content]] = {}
        self._dropped: set[str] = set()
        self._value: Value = None
        if archive.entries[entry].size:
            self._open(EntrySource(archive, entry))
        self.names = {*(mapping(self._value) or {})}

    def _open(self, source: EntrySource) -> None:
        self._archive = ZipArchive(source)
        self._root = zipped.root_of(self._archive)
        data = self._archive.read(f"{self._root}/data.pkl", pickle_machine.MAX_PICKLE)
        self._value = pickle_machine.load(data).value

    def put(self, name: str, content: Content, like: str) -> None:
        """See Store."""
        old = (mapping(self._value) or {}).get(name)
        is_parameter = old is None or old.class_path == PARAMETER
        key = self._new_key()
        grad = content.grad and old is not None and not is_parameter
        tensor = rebuilt(key, content, grad=grad)
        made = _parameter(tensor, content.grad, old) if is_parameter else tensor
        self._changed[name] = made, content
        self.names.add(name)

    def _new_key(self) -> str:
        number = len(self._archive.entries) + len(self._changed)
        while f"{self._root}/data/{number}" in self._archive.entries:
            number += 1
        return str(number)

    def drop(self, name: str) -> None:
        """See Store."""
        self._dropped.add(name)
        self.names.discard(name)

    def changes(self) -> Mapping[str, Part | None]:
        """See Store."""
        if not self._changed and not self._dropped & {*(mapping(self._value) or {})}:
            return {}
        _require_plain(self._value)
        if zipped.byteorder(self._archive, self._root) != "little":
            raise CannotFold("its tensors are big-endian: save it again on the machine it is for")
        parts = [*self._parts()]
        inner = Streamed(self._entry, size_of(parts), partial(written, parts))
        return {self._entry: inner}

    def _parts(self) -> Iterator[Part]:
        pairs = [*self._pairs()]
        value = Dict() if isinstance(self._value, Dict) else ordered()
        value.pairs = pairs
        data = encoded(value)
        kept = {f"{self._root}/data/{key}" for key in _keys([held for _, held in pairs])}
        for name in self._archive.entries:
            if name == f"{self._root}/data.pkl":
                yield Made(name, len(data), lambda: data)
            elif name in kept or not name.startswith((f"{self._root}/data/", *self._stale())):
                yield Copied(self._archive, name)
        for made, content in self._changed.values():
            (key,) = _keys([made])
            yield Made(f"{self._root}/data/{key}", content.size, content.make)

    def _stale(self) -> tuple[str, ...]:
        return (f"{self._root}/.data/serialization_id",)

    def _pairs(self) -> Iterator[tuple[str, Value]]:
        before = mapping(self._value) or {}
        for name, held in before.items():
            if name not in self._dropped:
                yield name, self._changed[name][0] if name in self._changed else held
        for name, (made, _) in self._changed.items():
            if name not in before:
                yield name, made


def _parameter(tensor: Instance, requires_grad: bool, old: Value) -> Instance:
    wants = old.args[1] if isinstance(old, Instance) and len(old.args) > 1 else requires_grad
    hooks = ordered()
    return Instance(Global("torch._utils", "_rebuild_parameter"), (tensor, wants, hooks))


def _keys(values: Sequence[Value]) -> set[str]:
    """The storages that values refer to."""
    return {each.value[2] for each in inside(values) if isinstance(each, PersistentId)}


def _require_plain(value: Value) -> None:
    """Other calls are not written back: the pickle does not tell in which way they are made."""
    for each in inside([value]):
        if isinstance(each, Instance) and (each.class_path not in KNOWN or each.state is not None):
            raise CannotFold(f"its tensors include a {each.class_path}, which is not written back")
