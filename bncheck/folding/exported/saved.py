"""Tensors that torch.save wrote into one entry of an archive, as they change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from bncheck.errors import CannotFold
from bncheck.folding.archives.pickles import encoded
from bncheck.folding.archives.zipped import Copied, Made, Part, Streamed, size_of, written
from bncheck.folding.exported.stores import Content
from bncheck.readers.exported.weights import EntrySource
from bncheck.readers.torch import pickle_machine, zipped
from bncheck.readers.torch.pickle_values import Dict, Global, Instance, PersistentId, Value, mapping
from bncheck.readers.ziparchive import ZipArchive
from bncheck.tensor import DTYPES

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
}
ORDERED = ("collections", "OrderedDict")
REBUILD = "torch._utils._rebuild_tensor_v2"
PARAMETER = "torch._utils._rebuild_parameter"
KNOWN = frozenset(
    {REBUILD, PARAMETER, "torch._utils._rebuild_tensor", "collections.OrderedDict", "torch.Size"}
)
MOST_LOOKS = 4_000_000


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
        tensor = _tensor(key, content, grad=old is not None and not is_parameter)
        made = _parameter(tensor, content.requires_grad, old) if is_parameter else tensor
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
        value = Dict() if isinstance(self._value, Dict) else Instance(Global(*ORDERED), ())
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


def _tensor(key: str, content: Content, grad: bool) -> Instance:
    elements = content.size // DTYPES[content.dtype][0]
    storage = PersistentId(
        ("storage", Global("torch", STORAGES[content.dtype]), key, "cpu", elements)
    )
    hooks = Instance(Global(*ORDERED), ())
    arguments = (storage, 0, content.shape, content.strides, grad and content.requires_grad, hooks)
    return Instance(Global("torch._utils", "_rebuild_tensor_v2"), arguments)


def _parameter(tensor: Instance, requires_grad: bool, old: Value) -> Instance:
    wants = old.args[1] if isinstance(old, Instance) and len(old.args) > 1 else requires_grad
    hooks = Instance(Global(*ORDERED), ())
    return Instance(Global("torch._utils", "_rebuild_parameter"), (tensor, wants, hooks))


def _keys(values: Sequence[Value]) -> set[str]:
    """The storages that values refer to."""
    return {each.value[2] for each in _walk(values) if isinstance(each, PersistentId)}


def _require_plain(value: Value) -> None:
    """Calls of other functions are not written back: the pickle does not tell how they were made."""
    for each in _walk([value]):
        if isinstance(each, Instance) and (each.class_path not in KNOWN or each.state is not None):
            raise CannotFold(f"its tensors include a {each.class_path}, which is not written back")


def _walk(values: Sequence[Value]) -> Iterator[Value]:
    """Everything in values, shared things once."""
    waiting, seen = [*values], set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        if len(seen) > MOST_LOOKS:
            raise CannotFold("its table of tensors is too large")
        seen.add(id(value))
        yield value
        waiting += _inside(value)


def _inside(value: Value) -> list[Value]:
    if isinstance(value, tuple | list):
        return [*value]
    if isinstance(value, Dict):
        return [item for pair in value.pairs for item in pair]
    if isinstance(value, Instance):
        flat = [item for pair in value.pairs for item in pair]
        return [value.args, *flat, *value.elements, value.state]
    return [value.value] if isinstance(value, PersistentId) else []
