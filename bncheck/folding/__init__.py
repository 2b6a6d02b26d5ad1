"""Folds BatchNorm into the layers around it, and proves that the outputs did not move."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bncheck.errors import CannotFold, naming
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
    arch: str | None = None,
    key: str | None = None,
) -> FoldResult:
    """Fold an nn.Module into one of the same class, or a file into another of its format.

    Files are .onnx, .pt2 and TorchScript. To compare the last two, torch has to load them, which
    may run code from them: ``trust`` allows that, and without it they need ``verify=False``. It
    also allows to unpickle a module. A file of weights is folded with ``arch``: code to import and
    to call, "package.module:factory", which gives the nn.Module that they are for. ``key`` tells
    which model is meant of a file with several.

    ``inputs`` are the arguments of a call of the module (a tensor, a tuple, or a mapping by name);
    for a file, the path of an .npz with an array for each input. The original stays as it is
    unless a module is folded ``inplace``. ``tolerance`` is an absolute error that stands in for
    the bound measured on the original. ``scale_only`` (files only) also folds scales whose shift
    finds no place, and leaves an addition.

    Raises CannotFold where that is not possible, or where the folded model is not the same within
    its bound: nothing is written or changed then.
    """
    if tolerance is not None and not tolerance >= 0:
        raise CannotFold(f"tolerance is {tolerance}: give an absolute error, 0 or more")
    if isinstance(target, str | os.PathLike):
        if output is None or inplace:
            raise CannotFold("a file is folded into another: give its path as output")
        npz = None if inputs is None else Path(str(inputs))
        options = Options(verify, tolerance, npz, scale_only, trust=trust, arch=arch, key=key)
        with naming(target):
            return fold_path(Path(target), Path(output), options)
    if output is not None:
        raise CannotFold("a module is folded into a module: save result.model where you like")
    if scale_only:
        raise CannotFold("scale_only is for files: a module's code has no place for an addition")
    from bncheck.folding.torch.fold import fold_object

    return fold_object(target, inputs, inplace=inplace, verify=verify, tolerance=tolerance)


def verify(
    original: str | os.PathLike[str],
    folded: str | os.PathLike[str],
    *,
    inputs: str | os.PathLike[str] | None = None,
    tolerance: float | None = None,
    trust: bool = False,
) -> Verification:
    """Judge a fold that any tool made: run both files on the same inputs and compare.

    Files are .onnx and, where ``trust`` lets torch load them, .pt2, TorchScript and pickled
    modules; ``inputs`` and ``tolerance`` as of ``fold``. Raises CannotFold where one of the two
    does not run.
    """
    npz = None if inputs is None else Path(inputs)
    options = Options(True, tolerance, npz, trust=trust)
    return verify_paths(Path(original), Path(folded), options)


def fold_path(
    source: Path, target: Path, options: Options, progress: Progress = silent
) -> FoldResult:
    """Fold a file into another, by its content."""
    from bncheck.folding.formats import folder_of

    return folder_of(source, options)(source, target, options, progress)


def verify_paths(
    original: Path, folded: Path, options: Options, progress: Progress = silent
) -> Verification:
    """Compare two files, by their formats."""
    from bncheck.folding.pairs import verify_paths as run

    return run(original, folded, options, progress)
