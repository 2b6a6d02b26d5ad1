"""Which fold a file takes, by its content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bncheck.errors import CannotFold
from bncheck.folding.options import Options, Progress
from bncheck.folding.result import FoldResult
from bncheck.readers import read, zips
from bncheck.readers.onnx.sniff import looks_like_onnx
from bncheck.readers.source import FileSource
from bncheck.readers.ziparchive import MAGIC, ZipArchive

Folder = Callable[[Path, Path, Options, Progress], FoldResult]
FOLDED = "folded are .onnx, .pt2 and TorchScript files, and live modules: bncheck.fold(model)"


def folder_of(path: Path) -> Folder:
    """What folds a file. Raises CannotFold for a model that is not folded, else UnreadableModel."""
    source = FileSource(path)
    if source.read(0, min(source.size, len(MAGIC))) == MAGIC:
        return _folder_of_archive(path, zips.format_of(ZipArchive(source)))
    if not looks_like_onnx(source):
        raise CannotFold(f"{path}: {_refusal(path)}")
    from bncheck.folding.onnx.fold import fold_file

    return fold_file


def _folder_of_archive(path: Path, form: str) -> Folder:
    if form == "torch-export":
        from bncheck.folding.exported.fold import fold_file

        return fold_file
    if form == "torchscript":
        from bncheck.folding.torchscript.fold import fold_file as fold_script

        return fold_script
    raise CannotFold(f"{path}: {_refusal(path)}")


def _refusal(path: Path) -> str:
    """Why a model is not folded."""
    first = read(path)[0]
    if first.format == "ort":
        return "is in ORT format, made for one runtime: fold the .onnx that it was made from"
    if first.content == "module":
        return f"is a pickled module, whose code is elsewhere: {FOLDED}"
    return f"holds tensors, and not what is done to them: {FOLDED}"
