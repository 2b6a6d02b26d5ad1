"""Folds ONNX files: only what changes is made anew, all else is copied byte by byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bncheck.fold.onnx.external import DataFile, place_initializers
from bncheck.fold.onnx.file import OnnxFile, open_file
from bncheck.fold.onnx.rewrite import Rewrite
from bncheck.fold.onnx.wire import Rewriter, written
from bncheck.fold.output import Staging
from bncheck.fold.plan import FoldPlan, plan
from bncheck.fold.reasons import Blocked, Obstacle
from bncheck.graph import Node
from bncheck.readers.limits import all_values
from bncheck.readers.onnx.protobuf import Span

__all__ = ["FoldedOnnx", "OnnxFile", "open_file", "write_folded"]


@dataclass(frozen=True, slots=True)
class FoldedOnnx:
    """A folded model that was written: where it lies, by which plan, and what went."""

    path: Path
    plan: FoldPlan
    saved_nodes: int


def write_folded(
    file: OnnxFile, staging: Staging, name: str, *, scale_only: bool = False
) -> FoldedOnnx:
    """Write a folded copy of a model under a name, with a data file beside it where it has one.

    A fold whose numbers do not fit its dtype is given up, and all is written again without it.
    Raises UnreadableModel where the model's own values cannot be read.
    """
    keep: dict[Node, Obstacle] = {}
    while True:
        decided = plan(file.graph, file.objection, keep=keep, scale_only=scale_only)
        try:
            with all_values():
                return _write(file, decided, staging, name)
        except Blocked as blocked:
            keep |= _to_keep(decided, blocked.obstacle)
            staging.clear()


def _to_keep(decided: FoldPlan, why: Obstacle) -> dict[Node, Obstacle]:
    """The folds that a node was to take in which cannot."""
    return {
        fold.node: why for fold in decided.folds if why.node in (fold.node, *fold.into)
    }


def _write(file: OnnxFile, decided: FoldPlan, staging: Staging, name: str) -> FoldedOnnx:
    rewrite = Rewrite(file, decided)
    edits = rewrite.edits()
    data: DataFile | None = place_initializers(rewrite, edits, f"{name}.data")
    pieces = Rewriter(file.source, edits).rewritten(Span(0, file.source.size))
    path = staging.write(name, written(pieces, file.source))
    if data is not None:
        staging.write(data.name, data.written(rewrite))
    return FoldedOnnx(path, decided, rewrite.nodes_saved)
