"""The tensors of an archive: raw storages with a table, or what torch.save wrote."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.readers.exported.document import MOST_BYTES, Json, parse
from bncheck.readers.exported.schema import SCALAR_TYPES
from bncheck.readers.source import Source
from bncheck.readers.torch import zipped
from bncheck.readers.torch.pickle_values import Global, PersistentId, mapping
from bncheck.readers.torch.storage import Budget, strided
from bncheck.readers.torch.values import Parameter, parameters
from bncheck.readers.ziparchive import ZipArchive
from bncheck.tensor import ByteOrder, Tensor

Tensors = dict[str, Parameter]


@dataclass(frozen=True, slots=True)
class EntrySource:
    """One entry of an archive as a source of its own; it has no siblings."""

    archive: ZipArchive
    name: str

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.archive.entries[self.name].size

    def read(self, offset: int, length: int) -> bytes:
        """See Source.read."""
        return self.archive.read_range(self.name, offset, length)

    def sibling(self, name: str) -> Source | None:
        """See Source.sibling."""
        return None


@dataclass(frozen=True, slots=True)
class RawStorages:
    """The entries of one folder of an archive, each a storage; see Storages.

    PyTorch takes them for little-endian on the machines that it runs on, whatever was written.
    """

    archive: ZipArchive
    folder: str
    byteorder: ByteOrder = "little"
    budget: Budget = field(default_factory=Budget)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Bytes of one storage."""
        name = self.folder + key
        if not self.archive.has(name):
            raise UnreadableModel(f"lacks the tensor data {name!r}: damaged, or saved in part")
        if length and self.archive.entries[name].size == 0:
            raise UnknownFact(Unknown("values", "the program was saved without them"))
        return self.archive.read_range(name, offset, length)


def saved(archive: ZipArchive, name: str) -> Tensors:
    """A dictionary of tensors that torch.save wrote into an entry."""
    source = EntrySource(archive, name)
    if not source.size:
        return {}
    value, storages = zipped.load(source)
    found = parameters(mapping(value) or {}, storages)
    return {key: held for key, held in found.items() if held is not None}


def listed(archive: ZipArchive, folder: str, table: str) -> Tensors:
    """The tensors of a table that lies in a folder, beside the storages that it names."""
    config = parse(archive.read(folder + table, MOST_BYTES), "table of weights").get("config")
    if not isinstance(config, dict):
        raise UnreadableModel("has a table of weights that holds none")
    return dict(_listed(config, RawStorages(archive, folder)))


def _listed(config: Mapping[str, Json], storages: RawStorages) -> Iterator[tuple[str, Parameter]]:
    for name, entry in config.items():
        match entry:
            case {"tensor_meta": None}:  # an object that is no tensor
                continue
            case {
                "path_name": str(path),
                "is_param": bool(is_parameter),
                "tensor_meta": {} as meta,
            }:
                tensor = _tensor(meta, path, storages, entry.get("use_pickle") is True)
                yield name, Parameter(tensor, is_parameter and meta.get("requires_grad") is True)
            case _:
                raise UnreadableModel(f"has a table of weights that is damaged at {name!r}")


def _tensor(meta: Mapping[str, Json], path: str, storages: RawStorages, pickled: bool) -> Tensor:
    match meta:
        case {"sizes": [*sizes], "strides": [*strides], "storage_offset": offset, "dtype": code}:
            dtype = SCALAR_TYPES.get(code, "unknown") if isinstance(code, int) else "unknown"
            shape, steps = _integers(sizes), _integers(strides)
            (begin,) = _integers([offset])
            if pickled:
                return Tensor(shape, dtype, _pickled)
            storage = PersistentId(("storage", Global("torch", "UntypedStorage"), path, "cpu", 0))
            return strided(storage, begin, shape, steps, dtype, storages)
    raise UnreadableModel("has a table of weights that says too little of one")


def _integers(sizes: list[Json]) -> tuple[int, ...]:
    unions = (each for each in sizes if isinstance(each, tuple))
    integers = tuple(n for kind, n in unions if kind == "as_int" and type(n) is int)
    if len(integers) != len(sizes):
        raise UnreadableModel("gives a stored tensor a size that is no number")
    return integers


def _pickled() -> array[float]:
    raise UnknownFact(Unknown("values", "the tensor is of a class of its own, stored as a pickle"))
