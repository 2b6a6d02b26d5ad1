"""How a zip archive becomes a folded one, whatever is in it: planned, written, proved, published.

The two archives are only run where the user trusts the file: torch unpickles records of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from bncheck.errors import CannotFold
from bncheck.facts import UnknownFact
from bncheck.folding.archives.zipped import Part, written
from bncheck.folding.carrying import Opened, carried_out
from bncheck.folding.options import Options, Progress
from bncheck.folding.output import Staging, require_apart
from bncheck.folding.plan import FoldPlan
from bncheck.folding.result import (
    FoldResult,
    Verification,
    folded_layers,
    kept_layers,
    parameters_saved,
)
from bncheck.model import Model
from bncheck.readers.source import FileSource, Source

NOT_PROVED = (
    "{source}: to compare the folded model with the original, torch has to load both, which "
    "runs code from the file: allow that with --trust, or fold without proof with --no-verify"
)


class Readable(Opened, Protocol):
    """An archive that is opened, and its facts."""

    model: Model


class Rewrite(Protocol):
    """What becomes of a file by a plan. Making it raises Blocked for what cannot be carried out."""

    @property
    def nodes_saved(self) -> int:
        """How many nodes go."""

    def parts(self) -> Iterator[Part]:
        """The entries of the new archive."""


File = TypeVar("File", bound=Readable)


def fold_archive(
    open_file: Callable[[Source], File],
    rewrite: Callable[[File, FoldPlan], Rewrite],
    source: Path,
    target: Path,
    options: Options,
    progress: Progress,
) -> FoldResult:
    """Fold an archive into another.

    Raises CannotFold where that cannot be, or where the result is not the same within its bound;
    UnreadableModel where the file cannot be read. Nothing is written then.
    """
    require_apart(source, target)
    file = open_file(FileSource(source))
    if options.verify and not options.trust:
        raise CannotFold(NOT_PROVED.format(source=source))
    with Staging(target) as staging:
        write = partial(_write, partial(rewrite, file), staging, target.name)
        try:
            decided, made, path = carried_out(file, write, scale_only=options.scale_only)
        except UnknownFact as unknown:
            raise CannotFold(f"nothing can be folded: {unknown}") from unknown
        proof = None
        if options.verify:
            proof = _proof(file, decided, source, path, options, progress)
        saved = source.stat().st_size - path.stat().st_size
        if not options.dry_run:
            staging.publish()
    return FoldResult(
        folded_layers(file.model, decided),
        kept_layers(file.model, decided.kept),
        proof,
        saved={
            "nodes": made.nodes_saved,
            "parameters": parameters_saved(decided),
            "bytes": saved,
        },
    )


def _write(
    rewrite: Callable[[FoldPlan], Rewrite], staging: Staging, name: str, decided: FoldPlan
) -> tuple[FoldPlan, Rewrite, Path]:
    staging.clear()
    made = rewrite(decided)
    return decided, made, staging.write(name, written(made.parts()))


def _proof(
    file: Readable,
    decided: FoldPlan,
    source: Path,
    made: Path,
    options: Options,
    progress: Progress,
) -> Verification:
    from bncheck.folding.torch.trusted import compare

    progress("loading both models")
    proof = compare(file.model, source, made, decided.sites, options)
    if not proof.passed:
        raise CannotFold(f"{source}: {proof.failure}; nothing was written")
    return proof
