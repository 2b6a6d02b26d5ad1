"""An archive of torch.export in, a folded one out."""

from __future__ import annotations

from pathlib import Path

from bncheck.folding.exported.file import open_file
from bncheck.folding.exported.rewrite import Rewrite
from bncheck.folding.options import Options, Progress, silent
from bncheck.folding.plan import FoldPlan
from bncheck.folding.result import FoldResult
from bncheck.folding.rewriting import Rewritten, fold_archive
from bncheck.readers.source import FileSource


def fold_file(
    source: Path, target: Path, options: Options, progress: Progress = silent
) -> FoldResult:
    """Fold a program into another.

    Raises CannotFold where that cannot be, or where the result is not the same within its bound;
    UnreadableModel where the file cannot be read. Nothing is written then.
    """
    file = open_file(FileSource(source))

    def rewrite(decided: FoldPlan) -> Rewritten:
        made = Rewrite(file, decided)
        return Rewritten(made.parts(), made.nodes_saved)

    return fold_archive(file, rewrite, source, target, options, progress)
