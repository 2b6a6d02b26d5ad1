"""Reads models. The format is told by content, never by the name of the file.

Nothing that a file names is imported, called, hashed or compared, and nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.facts import Evidence, Unknown
from bncheck.model import BatchSize, Model
from bncheck.readers import training
from bncheck.readers.sniff import refuse_known_others
from bncheck.readers.source import FileSource, Source

START_BYTES = 512
TRAINING_ARGUMENTS = "training_args.bin"


def read(target: object) -> tuple[Model, ...]:
    """The models of a file, or of a live object: nn.Module, state_dict, onnx.ModelProto.

    Raises UnreadableModel, with a reason to act on; NotAModel where it is something else.
    """
    if isinstance(target, str | os.PathLike):
        return read_source(FileSource(Path(target)))
    from bncheck.readers import live

    return live.read(target)


def read_source(source: FileSource) -> tuple[Model, ...]:
    """The models of a file."""
    start = source.read(0, min(source.size, START_BYTES))
    reader = _reader(start, source)
    if reader is None:
        refuse_known_others(start, source.path.suffix)
        raise NotAModel("is no model that bncheck knows")
    return tuple(_with_training_arguments(model, source) for model in reader(source))


def _reader(start: bytes, source: Source) -> Callable[[Source], tuple[Model, ...]] | None:
    """What reads a file that begins so; its module is imported now, and no other."""
    if start.startswith(b"PK\x03\x04"):
        from bncheck.readers import torch_zip

        return torch_zip.read
    from bncheck.readers import torch_legacy

    if start.startswith(torch_legacy.MAGIC):
        return torch_legacy.read
    from bncheck.readers import safetensors

    if safetensors.looks_like_safetensors(start):
        return safetensors.read
    from bncheck.readers import onnx

    return onnx.read if onnx.looks_like_onnx(source) else None


def _with_training_arguments(model: Model, source: Source) -> Model:
    """transformers writes its hyper-parameters beside the model, into a file of their own."""
    if not model.batch_norms or model.facts["batch_size"] is not training.NO_BATCH_SIZE:
        return model
    size = _batch_size_beside(source)
    if not isinstance(size, BatchSize):
        return model
    evidence = model.evidence | {Evidence.METADATA}
    return replace(model, evidence=evidence, facts={**model.facts, "batch_size": size})


def _batch_size_beside(source: Source) -> BatchSize | Unknown:
    from bncheck.readers import torch_zip

    try:
        beside = source.sibling(TRAINING_ARGUMENTS)
        if beside is None:
            return training.NO_BATCH_SIZE
        return training.of_training_arguments(torch_zip.load(beside)[0])
    except UnreadableModel:  # the model itself is sound
        return training.NO_BATCH_SIZE
