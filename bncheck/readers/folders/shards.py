"""A state_dict in several files, and the index that names them.

``model.safetensors.index.json`` and ``pytorch_model.bin.index.json`` hold a ``weight_map`` from
each tensor to its file. Loaders load every file that it names, with all that is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.model import Model
from bncheck.readers import safetensors, strict_json
from bncheck.readers.build import Origin, from_state_dict
from bncheck.readers.folders.siblings import Siblings
from bncheck.readers.source import Source
from bncheck.readers.torch import checkpoint, legacy, zipped
from bncheck.readers.torch.pickle_values import Value, mapping
from bncheck.readers.torch.storage import Storages
from bncheck.readers.torch.values import parameters
from bncheck.tensor import Tensor

MAX_INDEX = 24 * 2**20  # bytes
MAX_TENSORS = 200_000
MAX_SHARDS = 2048
MAX_NAME = 4096  # characters of the name of a file
START = 2**16  # bytes in which weight_map must begin
START_SHARD = 64


@dataclass(frozen=True, slots=True)
class Shard:
    """The tensors of one file, and what ``_metadata`` says; see checkpoint.versions."""

    container: str
    tensors: Mapping[str, Tensor]
    versions: Mapping[str, int]


def looks_like_index(source: Source) -> bool:
    """Whether this is a JSON object with a weight_map near its start."""
    start = source.read(0, min(source.size, START))
    return start.lstrip()[:1] == b"{" and b'"weight_map"' in start


def read(source: Source) -> tuple[Model, ...]:
    """The one state_dict that an index describes."""
    where = weight_map(source)
    shards = _shards(Siblings(source), dict.fromkeys(where.values()))
    _require_complete(where, shards)
    containers = {shard.container for shard in shards.values()}
    if len(containers) > 1:
        raise UnreadableModel(f"mixes files of several formats: {', '.join(sorted(containers))}")
    tensors = _united(shards)
    versions = {k: v for shard in shards.values() for k, v in shard.versions.items()}
    model = from_state_dict(tensors, versions, "state_dict", Origin(containers.pop()))
    return (replace(model, holds=f"{model.holds} in {len(shards)} files"),)


def weight_map(source: Source) -> dict[str, str]:
    """The file of each tensor. Raises UnreadableModel where the index is not sound."""
    if source.size > MAX_INDEX:
        raise UnreadableModel(f"is an index of {source.size} bytes, over {MAX_INDEX}")
    index = strict_json.parse(source.read(0, source.size), "an index", 2 * MAX_TENSORS)
    found = index.get("weight_map")
    if not isinstance(found, dict):
        raise NotAModel("is JSON without a weight_map, no index")
    if not found:
        raise UnreadableModel("is an index of no files")
    if not all(isinstance(each, str) and 0 < len(each) <= MAX_NAME for each in found.values()):
        raise UnreadableModel("is an index whose weight_map names something else than files")
    if len(found) > MAX_TENSORS or len(set(found.values())) > MAX_SHARDS:
        raise UnreadableModel(f"is an index of over {MAX_TENSORS} tensors or {MAX_SHARDS} files")
    return found


def _shards(siblings: Siblings, names: Iterable[str]) -> dict[str, Shard]:
    shards: dict[str, Shard] = {}
    tensors = 0
    for name in names:
        shards[name] = _shard(siblings, name)
        tensors += len(shards[name].tensors)
        if tensors > MAX_TENSORS:
            raise UnreadableModel(f"holds over {MAX_TENSORS} tensors")
    return shards


def _shard(siblings: Siblings, name: str) -> Shard:
    source = siblings.file(name)
    try:
        return _tensors_of(source)
    except UnreadableModel as error:
        raise UnreadableModel(f"is made of {name!r}, which {error.reason}") from error


def _tensors_of(source: Source) -> Shard:
    start = source.read(0, min(source.size, START_SHARD))
    if safetensors.looks_like_safetensors(start):
        return Shard("safetensors", safetensors.tensors(source), {})
    if start.startswith(b"PK\x03\x04"):
        return _pickled(zipped.load(source), "torch-zip")
    if legacy.looks_like_legacy(start):
        return _pickled(legacy.load(source), "torch-legacy")
    raise UnreadableModel("is neither a safetensors file nor one of torch.save")


def _pickled(loaded: tuple[Value, Storages], container: str) -> Shard:
    value, storages = loaded
    held = parameters(mapping(value) or {}, storages).items()
    tensors = {name: p.tensor for name, p in held if p and isinstance(p.tensor, Tensor)}
    if not tensors:
        raise UnreadableModel("holds no state_dict")
    return Shard(container, tensors, checkpoint.versions(value, tensors))


def _united(shards: Mapping[str, Shard]) -> dict[str, Tensor]:
    united: dict[str, Tensor] = {}
    for file, shard in shards.items():
        for name, tensor in shard.tensors.items():
            if name in united:
                raise UnreadableModel(f"holds the tensor {name!r} twice, in {file!r} and before")
            united[name] = _of_file(file, tensor)
    return united


def _of_file(file: str, tensor: Tensor) -> Tensor:
    """The tensor under a storage key that no other file's can equal."""
    storage = None if tensor.storage is None else (file, tensor.storage)
    return Tensor(tensor.shape, tensor.dtype, lambda: tensor.values, storage)


def _require_complete(where: Mapping[str, str], shards: Mapping[str, Shard]) -> None:
    for name, file in where.items():
        if name not in shards[file].tensors:
            raise UnreadableModel(f"expects the tensor {name!r} in {file!r}, which lacks it")
