"""Models that are spread over the files of a folder: which file stands for the whole."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath

from bncheck.errors import UnreadableModel
from bncheck.readers.source import FileSource

DISTRIBUTED = ".metadata"
DISTRIBUTED_PART = ".distcp"


def is_index(name: str) -> bool:
    """Whether a file is called as indexes are: x.index.json, x.index.fp16.json."""
    return name.endswith(".json") and ".index." in name


def is_distributed(names: Collection[str]) -> bool:
    """Whether a folder of these files is a checkpoint of torch.distributed."""
    return DISTRIBUTED in names and any(name.endswith(DISTRIBUTED_PART) for name in names)


def own_files(names: Collection[str]) -> list[str]:
    """Which files of a folder may be models of their own."""
    if not is_distributed(names):
        return [*names]
    return [name for name in names if name != DISTRIBUTED and not name.endswith(DISTRIBUTED_PART)]


def shard_paths(folder: Path, names: Collection[str]) -> Iterator[Path]:
    """The files in and below a folder that its indexes name."""
    for name in names:
        if is_index(name):
            yield from (folder / shard for shard in _named_by(folder / name))


def _named_by(index: Path) -> list[str]:
    from bncheck.readers.folders import shards

    try:
        source = FileSource(index)
        named = shards.weight_map(source).values() if shards.looks_like_index(source) else ()
    except UnreadableModel:  # is said when the index itself is read
        return []
    return [name for name in dict.fromkeys(named) if _is_inside(PurePath(name))]


def _is_inside(name: PurePath) -> bool:
    return not (name.is_absolute() or name.drive or ".." in name.parts)


def representative(folder: Path) -> Path:
    """The file to read for a folder. Raises UnreadableModel where there is none, or a choice."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 (names are all that is needed)
    except OSError as error:
        raise UnreadableModel(f"cannot be opened: {str(error.strerror).lower()}") from error
    if is_distributed(names):
        return folder / DISTRIBUTED
    indexes = [name for name in names if is_index(name)]
    if len(indexes) != 1:
        raise UnreadableModel("is a folder: name the model in it")
    return folder / indexes[0]
