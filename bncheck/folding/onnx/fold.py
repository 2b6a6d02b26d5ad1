"""An ONNX file in, a folded one out, or nothing at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bncheck.errors import CannotFold
from bncheck.folding.carrying import carried_out
from bncheck.folding.onnx.external import Beside, data_name, place_initializers
from bncheck.folding.onnx.file import OnnxFile, open_file
from bncheck.folding.onnx.rewrite import Rewrite
from bncheck.folding.onnx.verify import common_sites, verify
from bncheck.folding.onnx.wire import Rewriter, written
from bncheck.folding.options import Options, Progress, silent
from bncheck.folding.output import Staging, require_apart
from bncheck.folding.plan import FoldPlan
from bncheck.folding.result import (
    FoldResult,
    Verification,
    folded_layers,
    kept_layers,
    parameters_saved,
)
from bncheck.readers.onnx.protobuf import Span
from bncheck.readers.source import FileSource


@dataclass(frozen=True, slots=True)
class Written:
    """A folded model that was written: where it lies, by which plan, how, and its bytes."""

    path: Path
    plan: FoldPlan
    rewrite: Rewrite
    size: int


def fold_file(
    source: Path, target: Path, options: Options, progress: Progress = silent
) -> FoldResult:
    """Fold an ONNX file into another.

    Raises CannotFold where that cannot be, or where the result is not the same within its bound;
    UnreadableModel where the file cannot be read. Nothing is written then.
    """
    require_apart(source, target)
    file = open_file(FileSource(source))
    with Staging(target) as staging:
        names = target.name, data_name(file, target)
        write = partial(_write, file, staging, names)
        made = carried_out(file, write, scale_only=options.scale_only)
        proof = _proof(file, source, made, options, progress) if options.verify else None
        if proof is not None and not proof.passed:
            raise CannotFold(f"{source}: {proof.failure}; nothing was written")
        if not options.dry_run:
            staging.publish()
    return FoldResult(
        folded_layers(file.model, made.plan),
        kept_layers(file.model, made.plan.kept),
        proof,
        saved={
            "nodes": made.rewrite.nodes_saved,
            "parameters": parameters_saved(made.plan),
            "bytes": _size(file) - made.size,
        },
    )


def _write(file: OnnxFile, staging: Staging, names: tuple[str, str], decided: FoldPlan) -> Written:
    staging.clear()
    rewrite = Rewrite(file, decided)
    edits = rewrite.edits()
    data = place_initializers(rewrite, edits, names[1])
    pieces = Rewriter(file.source, edits).rewritten(Span(0, file.source.size))
    path = staging.write(names[0], written(pieces, file.source))
    size = path.stat().st_size
    if data is not None and data.size:
        staging.write(data.name, data.written(rewrite))
        size += data.size
    return Written(path, decided, rewrite, size)


def _size(file: OnnxFile) -> int:
    """Bytes of a model with its data files."""
    return file.source.size + sum(each.size for each in Beside(file).sources.values())


def _proof(
    file: OnnxFile, source: Path, made: Written, options: Options, progress: Progress
) -> Verification:
    return verify(
        (file, source),
        (open_file(FileSource(made.path)), made.path),
        made.rewrite.sites,
        inputs=options.inputs,
        tolerance=options.tolerance,
        progress=progress,
    )


def verify_files(
    original: Path, folded: Path, options: Options, progress: Progress
) -> Verification:
    """Judge a fold that any tool made. Raises CannotFold where one of the two does not run."""
    files = open_file(FileSource(original)), open_file(FileSource(folded))
    return verify(
        (files[0], original),
        (files[1], folded),
        common_sites(*files),
        inputs=options.inputs,
        tolerance=options.tolerance,
        progress=progress,
    )
