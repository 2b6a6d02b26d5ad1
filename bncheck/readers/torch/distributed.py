"""Checkpoints of torch.distributed: a folder with a pickled ``.metadata`` and ``*.distcp`` files.

``.metadata`` gives each tensor's shape and chunks, and for each chunk the file, offset and length
of a zip file as torch.save writes it. Nested dictionaries are flattened to dotted names;
``planner_data`` keeps the keys. See torch/distributed/checkpoint/metadata.py and filesystem.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

from bncheck.errors import UnreadableModel
from bncheck.model import Model
from bncheck.readers.folders.siblings import Sibling, Siblings
from bncheck.readers.source import Source
from bncheck.readers.torch import checkpoint, pickle_machine
from bncheck.readers.torch.chunks import Chunk, ChunkBudget, Stored, tensor
from bncheck.readers.torch.pickle_values import Dict, Global, Instance, Value, attributes, mapping
from bncheck.readers.torch.storage import Budget, integers
from bncheck.readers.torch.values import Parameter
from bncheck.tensor import ByteOrder

CLASSES = "torch.distributed.checkpoint.metadata"
MAX_FILES = 8192
MAX_NESTED = 32  # dictionaries in each other

Keys = tuple[str, ...]
# The name of a tensor, and where in it a chunk begins: in words, since a file may choose numbers
# that make a dictionary slow.
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class NoStorages:
    """The tensors are made already: only the budget is asked for. See Storages."""

    budget: Budget
    byteorder: ByteOrder = "little"

    def read(self, key: str, offset: int, length: int) -> NoReturn:
        """See Storages.read."""
        raise UnreadableModel("has metadata that refers to a storage: damaged")


def looks_like_metadata(start: bytes) -> bool:
    """Whether a file that begins so is a pickled Metadata."""
    return start[:1] == b"\x80" and CLASSES.encode() in start


def read(source: Source) -> tuple[Model, ...]:
    """The models of a checkpoint, from its ``.metadata``."""
    if source.size > pickle_machine.MAX_PICKLE:
        raise UnreadableModel(f"has metadata of over {pickle_machine.MAX_PICKLE} bytes")
    metadata = attributes(pickle_machine.load(source.read(0, source.size)).value)
    described = mapping(metadata.get("state_dict_metadata"))
    if not described:
        raise UnreadableModel("has metadata that names no tensor: damaged")
    stored = _stored(metadata.get("storage_data"), Siblings(source))
    budget = ChunkBudget()
    paths = mapping(metadata.get("planner_data")) or {}
    nest = _Nest()
    for name, entry in described.items():
        keys = _keys(name, paths.get(name))
        budget.step(len(keys))
        nest.put(keys, _leaf(name, entry, stored, budget))
    return checkpoint.models(nest.root, NoStorages(budget), "torch-distributed", source)


def _stored(held: Value, siblings: Siblings) -> dict[Place, Stored]:
    """Where each chunk lies. Raises UnreadableModel where a file is missing or too short."""
    if not isinstance(held, Dict):
        raise UnreadableModel("has metadata without the places of its tensors: damaged")
    files: dict[str, Sibling] = {}
    found: dict[Place, Stored] = {}
    for index, info in held.pairs:
        place, stored = _place(attributes(index)), _one_stored(attributes(info), files, siblings)
        if found.setdefault(place, stored) is not stored:
            raise UnreadableModel(f"has metadata that stores {place[0]!r} twice")
    _require_apart(found.values())
    return found


def _require_apart(stored: Iterable[Stored]) -> None:
    for one, other in pairwise(sorted(stored, key=lambda each: each.key)):
        if one.key[0] == other.key[0] and one.key[1] + one.source.size > other.key[1]:
            raise UnreadableModel(f"has tensors that overlap in {one.key[0]!r}: damaged")


def _place(index: Mapping[str, Value]) -> Place:
    name, offset = index.get("fqn"), index.get("offset")
    if not isinstance(name, str):
        raise UnreadableModel("has metadata that stores something without a name: damaged")
    return name, "" if offset is None else str(integers(offset))


def _one_stored(info: Mapping[str, Value], files: dict[str, Sibling], siblings: Siblings) -> Stored:
    match [info.get(name) for name in ("relative_path", "offset", "length")]:
        case [str(name), int(offset), int(length)]:
            if name not in files:
                files[name] = siblings.file(name)
            if len(files) > MAX_FILES:
                raise UnreadableModel(f"lies in over {MAX_FILES} files")
            is_plain = not info.get("transform_descriptors")
            return Stored(files[name].part(offset, length), (name, offset), is_plain)
    raise UnreadableModel("has metadata that gives a tensor no place in a file: damaged")


def _leaf(name: str, entry: Value, stored: Mapping[Place, Stored], budget: ChunkBudget) -> Value:
    """A tensor as the pickle of one would give it; None for all else."""
    held = attributes(entry)
    chunks = held.get("chunks")
    if not isinstance(entry, Instance) or not entry.class_path.endswith("TensorStorageMetadata"):
        return None
    if not isinstance(chunks, list):
        raise UnreadableModel(f"has metadata that gives {name!r} no chunks: damaged")
    budget.step(len(chunks))
    parts = [_chunk(name, attributes(chunk), stored) for chunk in chunks]
    leaf = Instance(None, ())
    made = tensor(name, integers(held.get("size")), _dtype(held.get("properties")), parts, budget)
    leaf.tensor = Parameter(made, requires_grad=False)
    return leaf


def _chunk(name: str, held: Mapping[str, Value], stored: Mapping[Place, Stored]) -> Chunk:
    offsets = integers(held.get("offsets"))
    place = (name, str(offsets))
    if place not in stored:
        raise UnreadableModel(f"has metadata that does not say where {name!r} is stored")
    return Chunk(offsets, integers(held.get("sizes")), stored[place])


def _dtype(properties: Value) -> str:
    """TensorProperties: a tuple that begins with the dtype, or a dictionary."""
    if not isinstance(properties, Instance):
        return "unknown"
    match properties.state:
        case (Global() as dtype, *_):
            return dtype.name
    held = attributes(properties).get("dtype")
    return held.name if isinstance(held, Global) else "unknown"


def _keys(name: str, path: Value) -> Keys:
    """The keys under which a tensor lay in nested dictionaries and lists."""
    if not isinstance(path, tuple) or not path:
        return (name,)
    if len(path) > MAX_NESTED or not all(isinstance(key, str | int) for key in path):
        raise UnreadableModel(f"has metadata with an unknown path for {name!r}")
    return tuple(map(str, path))


class _Nest:
    """The dictionaries that were flattened."""

    def __init__(self) -> None:
        self.root = Dict()
        self._pairs: dict[Keys, list[tuple[Value, Value]]] = {}
        self._open((), self.root)
        self._leaves: set[Keys] = set()

    def put(self, keys: Keys, leaf: Value) -> None:
        """Set an element. Raises UnreadableModel where there is something already."""
        if keys in self._pairs or keys in self._leaves:
            raise UnreadableModel(f"has metadata that names {'.'.join(keys)!r} twice")
        self._leaves.add(keys)
        for end in range(1, len(keys)):
            self._require_dict(keys[:end])
        self._pairs[keys[:-1]].append((keys[-1], leaf))

    def _require_dict(self, keys: Keys) -> None:
        if keys in self._leaves:
            raise UnreadableModel(f"has metadata that puts something into {'.'.join(keys)!r}")
        if keys not in self._pairs:
            inner = Dict()
            self._pairs[keys[:-1]].append((keys[-1], inner))
            self._open(keys, inner)

    def _open(self, keys: Keys, inner: Dict) -> None:
        pairs: list[tuple[Value, Value]] = []
        inner.pairs = self._pairs[keys] = pairs
