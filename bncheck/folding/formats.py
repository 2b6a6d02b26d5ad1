"""Which fold a file takes, by its content."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bncheck.errors import CannotFold
from bncheck.folding.options import Options, Progress
from bncheck.folding.result import FoldResult
from bncheck.folding.rewriting import fold_archive
from bncheck.readers import read, zips
from bncheck.readers.onnx.sniff import looks_like_onnx
from bncheck.readers.source import FileSource
from bncheck.readers.ziparchive import MAGIC, ZipArchive

Folder = Callable[[Path, Path, Options, Progress], FoldResult]
ONNX, PROGRAM, SCRIPT = "onnx", "torch-export", "torchscript"
GRAPHS = ONNX, PROGRAM, SCRIPT
ORT = "is in ORT format, made for one runtime: fold the .onnx that it was made from"


def folder_of(path: Path, options: Options) -> Folder:
    """What folds a file. Raises CannotFold for a model that is not folded, else UnreadableModel."""
    form = format_of(path)
    if form in GRAPHS and (options.arch or options.key):
        raise CannotFold(
            f"{path}: is a graph of its own: --arch and --key are for files of weights"
        )
    if form == ONNX:
        from bncheck.folding.onnx.fold import fold_file as fold_onnx

        return fold_onnx
    if form == PROGRAM:
        from bncheck.folding.exported.file import open_file as open_program
        from bncheck.folding.exported.rewrite import Rewrite as RewriteProgram

        return partial(fold_archive, open_program, RewriteProgram)
    if form == SCRIPT:
        from bncheck.folding.torchscript.file import open_file
        from bncheck.folding.torchscript.rewrite import Rewrite

        return partial(fold_archive, open_file, Rewrite)
    if form == "ort":
        raise CannotFold(f"{path}: {ORT}")
    from bncheck.folding.weights.fold import fold_file as fold_weights

    return fold_weights


def format_of(path: Path) -> str:
    """The format of a model file; what its bytes begin with often tells."""
    source = FileSource(path)
    if source.read(0, min(source.size, len(MAGIC))) == MAGIC:
        return zips.format_of(ZipArchive(source))
    if looks_like_onnx(source):
        return ONNX
    return read(path)[0].format
