"""bncheck fold and bncheck verify."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bncheck import console
from bncheck.errors import CannotFold, UnreadableModel
from bncheck.folding import fold_path, verify_paths
from bncheck.folding.formats import GRAPHS, ONNX, format_of
from bncheck.folding.options import Options, Progress, silent
from bncheck.reports import folding as report
from bncheck.reports.json import dump
from bncheck.running.outcome import FAILED, FINDINGS, OK


def unwritten(model: Path) -> Path:
    """Where a fold is tried out that is not to be written."""
    return Path(tempfile.gettempdir(), f"{model.stem}.folded{model.suffix}")


def fold(
    model: Path, output: Path, options: Options, report_file: Path | None, require_all: bool
) -> int:
    """Fold a model file; the exit code."""
    _require_place_for_report(report_file, model, output)
    try:
        _say_what_runs(model, options)
        with _ended_as_interrupted():
            result = fold_path(model, output, options, _progress())
    except UnreadableModel as error:
        console.message(f"{model}: {error.reason}")
        return FAILED
    written = not options.dry_run
    if report_file is not None:
        made = report.to_dict(str(model), str(output) if written else None, result)
        console.write_file(report_file, dump(made))
    console.write(report.summary(str(output if written else model), result, written))
    return FINDINGS if require_all and result.kept else OK


def _require_place_for_report(report_file: Path | None, *models: Path) -> None:
    """Raise CannotFold, before any work, where a report could not be written after it."""
    if report_file is None:
        return
    if not report_file.absolute().parent.is_dir():
        raise CannotFold(f"{report_file}: the folder for the report does not exist")
    if any(os.path.realpath(report_file) == os.path.realpath(each) for each in models):
        raise CannotFold(f"{report_file}: would take the place of a model: give another --report")


def _say_what_runs(model: Path, options: Options) -> None:
    form = format_of(model) if options.arch or options.trust else ONNX
    if options.arch and form not in GRAPHS:
        console.message(f"--arch: imports and runs {options.arch}")
    if options.trust and form != ONNX:
        console.message(f"--trust: torch loads {model}, and may run code from it")


def verify(original: Path, folded: Path, options: Options, form: str) -> int:
    """Compare two model files; the exit code."""
    try:
        with _ended_as_interrupted():
            proof = verify_paths(original, folded, options, _progress())
    except UnreadableModel as error:
        console.message(f"{original}, {folded}: {error.reason}")
        return FAILED
    if form == "json":
        console.write(dump(report.proof_to_dict(str(original), str(folded), proof)))
    else:
        verdict = "the same" if proof.passed else "NOT the same"
        console.write(report.block([f"{folded}: {verdict}", *report.verification(proof)]))
    return OK if proof.passed else FAILED


def _progress() -> Progress:
    """Progress is for terminals."""
    return console.message if sys.stderr is not None and sys.stderr.isatty() else silent


@contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """A process that is told to end tidies up first, as it does after Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
