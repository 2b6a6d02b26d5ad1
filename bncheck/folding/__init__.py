"""Folds BatchNorm into the layers around it, and proves that the outputs did not move."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bncheck.errors import CannotFold
from bncheck.folding.options import Options, Progress, silent

if TYPE_CHECKING:
    from bncheck.folding.result import FoldResult, Verification

__all__ = ["fold", "verify"]


def fold(
    target: object,
    output: str | os.PathLike[str] | None = None,
    *,
    inputs: object | None = None,
    inplace: bool = False,
    verify: bool = True,
    tolerance: float | None = None,
    scale_only: bool = False,
    trust: bool = False,
) -> FoldResult:
    """Fold an nn.Module into one of the same class, or a file into another of its format.

    Files are .onnx, .pt2 and TorchScript. To compare the last two, torch has to load them, which
    may run code from them: ``trust`` allows that, and without it they need ``verify=False``.

    ``inputs`` are the arguments of a call of the module (a tensor, a tuple, or a mapping by name);
    for a file, the path of an .npz with an array for each input. The original stays as it is
    unless a module is folded ``inplace``. ``tolerance`` is an absolute error that stands in for
    the bound measured on the original. ``scale_only`` (files only) also folds scales whose shift
    finds no place, and leaves an addition.

    Raises CannotFold where that is not possible, or where the folded model is not the same within
    its bound: nothing is written or changed then.
    """
    if isinstance(target, str | os.PathLike):
        if output is None:
            raise CannotFold("a file is folded into another: give its path as output")
        npz = None if inputs is None else Path(str(inputs))
        options = Options(verify, tolerance, npz, scale_only, trust=trust)
        return fold_path(Path(target), Path(output), options)
    if output is not None:
        raise CannotFold("a module is folded into a module: save result.model where you like")
    from bncheck.folding.torch.fold import fold_object

    return fold_object(target, inputs, inplace=inplace, verify=verify, tolerance=tolerance)


def verify(
    original: str | os.PathLike[str],
    folded: str | os.PathLike[str],
    *,
    inputs: str | os.PathLike[str] | None = None,
    tolerance: float | None = None,
) -> Verification:
    """Judge a fold that any tool made: run both ONNX files on the same inputs and compare.

    Raises CannotFold where one of the two does not run.
    """
    npz = None if inputs is None else Path(inputs)
    return verify_paths(Path(original), Path(folded), Options(True, tolerance, npz), silent)


def fold_path(
    source: Path, target: Path, options: Options, progress: Progress = silent
) -> FoldResult:
    """Fold a file into another, by its content."""
    from bncheck.folding.formats import folder_of

    return folder_of(source)(source, target, options, progress)


def verify_paths(
    original: Path, folded: Path, options: Options, progress: Progress = silent
) -> Verification:
    """Compare two files, by their format."""
    from bncheck.folding.onnx.fold import verify_files

    _require_onnx(original)
    _require_onnx(folded)
    return verify_files(original, folded, options, progress)


def _require_onnx(path: Path) -> None:
    from bncheck.readers.onnx.sniff import looks_like_onnx
    from bncheck.readers.source import FileSource

    if not looks_like_onnx(FileSource(path)):
        raise CannotFold(f"{path}: only ONNX files are folded; for a module, bncheck.fold(model)")
