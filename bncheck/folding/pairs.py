"""Judges a fold that any tool made: two files of any format that can be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bncheck.errors import CannotFold, UnreadableModel
from bncheck.folding.formats import ONNX, ORT, PROGRAM, SCRIPT, format_of
from bncheck.folding.options import Options, Progress, silent
from bncheck.folding.result import Verification
from bncheck.model import Model
from bncheck.readers import read

if TYPE_CHECKING:
    from bncheck.folding.torch.trusted import Loaded

FOREIGN = 10.0  # what is allowed between engines, to what is allowed within one
NOT_TRUSTED = (
    "{path}: to run it, torch has to load it, which may run code from the file: "
    "allow that with --trust"
)
NOT_RUN = "{path}: holds tensors, and not what is done to them: there is nothing to run"


def verify_paths(
    original: Path, folded: Path, options: Options, progress: Progress = silent
) -> Verification:
    """Run two files on the same inputs and compare all outputs.

    Of two ONNX files the places inside are compared too. Files of different formats are given
    their inputs, and asked for their outputs, by position. Raises CannotFold where one of the two
    does not run, or must not.
    """
    forms = _form(original), _form(folded)
    if forms == (ONNX, ONNX):
        from bncheck.folding.onnx.fold import verify_files

        return verify_files(original, folded, options, progress)
    _require_runnable(original, forms[0], options)
    _require_runnable(folded, forms[1], options)
    progress("loading both models")
    before = _loaded(original, forms[0], options.inputs)
    after = _loaded(folded, forms[1], None)
    return _compared(before, after, forms[0] == forms[1], options)


def _form(path: Path) -> str:
    try:
        return format_of(path)
    except UnreadableModel as error:
        raise CannotFold(f"{path}: {error.reason}") from error


def _require_runnable(path: Path, form: str, options: Options) -> None:
    if form == ONNX:
        return
    if form == "ort":
        raise CannotFold(f"{path}: {ORT}")
    if read(path)[0].content in ("state_dict", "checkpoint"):
        raise CannotFold(NOT_RUN.format(path=path))
    if not options.trust:
        raise CannotFold(NOT_TRUSTED.format(path=path))


def _compared(before: Loaded, after: Loaded, alike: bool, options: Options) -> Verification:
    from bncheck.folding.torch import order
    from bncheck.folding.torch.verify import verify

    if not alike:
        before, after = order.by_position(before), order.by_position(after)
    feeds = order.shared(before, after, options.inputs is not None)
    proof = verify(before.runner, after.runner, feeds, (), options.tolerance)
    return proof if alike or options.tolerance is not None else _widened(proof)


def _widened(proof: Verification) -> Verification:
    """Two engines add in different orders, which no run of one of them shows."""
    wider = (replace(each, bound=FOREIGN * each.bound) for each in proof.outputs)
    return replace(proof, outputs=tuple(wider))


def _loaded(path: Path, form: str, given: Path | None) -> Loaded:
    if form == ONNX:
        from bncheck.folding.torch.order import onnx

        return onnx(path, given)
    from bncheck.folding.torch import trusted

    load: Mapping[str, Callable[[Path, Model, Path | None], Loaded]] = {
        PROGRAM: trusted.program,
        SCRIPT: trusted.script,
    }
    return load.get(form, trusted.module)(path, read(path)[0], given)
