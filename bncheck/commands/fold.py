"""bncheck fold and bncheck verify."""

from __future__ import annotations

import sys
from pathlib import Path

from bncheck import console
from bncheck.errors import UnreadableModel
from bncheck.folding import fold_path, verify_paths
from bncheck.folding.options import Options, Progress, silent
from bncheck.outcome import FAILED, FINDINGS, OK
from bncheck.reports import folding as report
from bncheck.reports.json import dump


def fold(
    model: Path, output: Path, options: Options, report_file: Path | None, require_all: bool
) -> int:
    """Fold a model file; the exit code."""
    try:
        result = fold_path(model, output, options, _progress())
    except UnreadableModel as error:
        console.message(f"{model}: {error.reason}")
        return FAILED
    shown = str(model if options.dry_run else output)
    console.write(report.summary(shown, result, written=not options.dry_run))
    if report_file is not None:
        console.write_file(report_file, dump(report.to_dict(result)))
    return FINDINGS if require_all and result.kept else OK


def verify(original: Path, folded: Path, options: Options, form: str) -> int:
    """Compare two model files; the exit code."""
    try:
        proof = verify_paths(original, folded, options, _progress())
    except UnreadableModel as error:
        console.message(f"{original}, {folded}: {error.reason}")
        return FAILED
    if form == "json":
        console.write(dump(report.proof_to_dict(proof)))
    else:
        verdict = "the same" if proof.passed else "NOT the same"
        lines = [f"{folded}  {verdict}", *(f"  {line}" for line in report.verification(proof))]
        console.write("\n".join(lines) + "\n")
    return OK if proof.passed else FAILED


def _progress() -> Progress:
    """Progress is for terminals."""
    return console.message if sys.stderr is not None and sys.stderr.isatty() else silent
