"""Reads models. The format is told by content, never by the name of the file.

Nothing that a file names is imported, called, hashed or compared, and nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from bncheck.errors import ConfigurationError, NotAModel
from bncheck.model import Model
from bncheck.readers import folders
from bncheck.readers.folders import companions
from bncheck.readers.sniff import refuse_known_others
from bncheck.readers.source import FileSource, Source

START_BYTES = 512


def read(target: object, inputs: object | None = None) -> tuple[Model, ...]:
    """The models of a file, of a folder that is one model, or of a live object.

    For live objects, and ``inputs``, see live.read.

    Raises UnreadableModel, with a reason to act on; NotAModel where it is something else;
    ConfigurationError for inputs of what is never run.
    """
    if isinstance(target, str | os.PathLike):
        if inputs is not None:
            raise ConfigurationError("inputs are for an nn.Module: a file is never run")
        path = Path(target)
        is_folder = os.path.isdir(path)  # noqa: PTH112 (Path.is_dir may raise)
        return read_source(FileSource(folders.representative(path) if is_folder else path))
    from bncheck.readers import live

    return live.read(target, inputs)


def read_source(source: FileSource) -> tuple[Model, ...]:
    """The models of a file."""
    start = source.read(0, min(source.size, START_BYTES))
    reader = _reader(start, source)
    if reader is None:
        refuse_known_others(start, source.path.suffix)
        raise NotAModel("is no model that bncheck knows")
    return tuple(companions.with_companions(model, source) for model in reader(source))


def _reader(start: bytes, source: Source) -> Callable[[Source], tuple[Model, ...]] | None:
    """What reads a file that begins so; its module is imported now, and no other."""
    if start.startswith(b"PK\x03\x04"):
        from bncheck.readers import zips

        return zips.read
    if start[8:9] == b"{":
        from bncheck.readers import safetensors

        if safetensors.looks_like_safetensors(start):
            return safetensors.read
    if start[:1] == b"\x80" and (reader := _pickle_reader(start)):
        return reader
    if start.lstrip()[:1] == b"{":
        from bncheck.readers.folders import shards

        return shards.read if shards.looks_like_index(source) else None
    if start[4:8] == b"ORTM":
        from bncheck.readers import ort

        if ort.looks_like_ort(source):
            return ort.read
    from bncheck.readers import onnx

    return onnx.read if onnx.looks_like_onnx(source) else None


def _pickle_reader(start: bytes) -> Callable[[Source], tuple[Model, ...]] | None:
    from bncheck.readers.torch import distributed, legacy

    if legacy.looks_like_legacy(start):
        return legacy.read
    return distributed.read if distributed.looks_like_metadata(start) else None
