"""How a zip archive becomes a folded one, whatever is in it: planned, written, proved, published.

The two archives are only run where the user trusts the file: torch unpickles records of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from bncheck.errors import CannotFold
from bncheck.facts import UnknownFact
from bncheck.folding.archives.zipped import Part, written
from bncheck.folding.memory import unsafe
from bncheck.folding.options import Options, Progress
from bncheck.folding.output import Staging
from bncheck.folding.plan import FoldPlan, plan
from bncheck.folding.reasons import Blocked, Obstacle, Reason
from bncheck.folding.result import (
    FoldResult,
    Verification,
    folded_layers,
    kept_layers,
    parameters_saved,
)
from bncheck.graph import Graph, Node
from bncheck.model import Model
from bncheck.readers.limits import all_values
from bncheck.readers.source import FileSource, Source

NOT_PROVED = (
    "{source}: to compare the folded model with the original, torch has to load both, which "
    "runs code from the file: allow that with --trust, or fold without proof with --no-verify"
)


class Opened(Protocol):
    """A file whose graph is known, down to what each node was made of."""

    model: Model

    @property
    def graph(self) -> Graph:
        """The flat graph."""

    @property
    def in_place(self) -> frozenset[str]:
        """What operators make that write into what they are given."""

    def objection(self, node: Node) -> Reason | None:
        """Why a node cannot change or go; None where it can."""


class Rewrite(Protocol):
    """What becomes of a file by a plan. Making it raises Blocked for what cannot be carried out."""

    @property
    def nodes_saved(self) -> int:
        """How many nodes go."""

    def parts(self) -> Iterator[Part]:
        """The entries of the new archive."""


File = TypeVar("File", bound=Opened)


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
        decided, made, path = _write(file, partial(rewrite, file), staging, target.name, options)
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


def require_apart(source: Path, target: Path) -> None:
    """Raise CannotFold where a model would take its own place."""
    if target.exists() and source.exists() and target.samefile(source):
        raise CannotFold(f"{target} is the model itself: give another name with -o")


def _write(
    file: Opened,
    rewrite: Callable[[FoldPlan], Rewrite],
    staging: Staging,
    name: str,
    options: Options,
) -> tuple[FoldPlan, Rewrite, Path]:
    """A fold whose numbers do not fit its dtype is given up, and all is written without it."""
    graph = _graph(file)
    keep: dict[Node, Obstacle] = {}
    while True:
        decided = _plan(file, graph, keep, options.scale_only)
        try:
            with all_values():
                made = rewrite(decided)
                return decided, made, staging.write(name, written(made.parts()))
        except Blocked as blocked:
            refused = _refused(decided, blocked.obstacle)
            if refused.keys() <= keep.keys():
                raise CannotFold(f"the fold cannot be written: {blocked.obstacle}") from None
            keep |= refused
            staging.clear()
        except UnknownFact as unknown:
            raise CannotFold(f"the fold cannot be computed: {unknown}") from unknown


def _graph(file: Opened) -> Graph:
    try:
        return file.graph
    except UnknownFact as unknown:
        raise CannotFold(f"nothing can be folded: {unknown}") from unknown


def _plan(file: Opened, graph: Graph, keep: dict[Node, Obstacle], scale_only: bool) -> FoldPlan:
    while True:
        decided = plan(graph, file.objection, keep=keep, scale_only=scale_only)
        refused = unsafe(decided, graph, file.in_place)
        if refused.keys() <= keep.keys():
            return decided
        keep |= refused


def _refused(decided: FoldPlan, why: Obstacle) -> Mapping[Node, Obstacle]:
    """The folds that need a node to take in what it cannot."""
    return {fold.node: why for fold in decided.folds if why.node in (fold.node, *fold.into)}


def _proof(
    file: Opened, decided: FoldPlan, source: Path, made: Path, options: Options, progress: Progress
) -> Verification:
    from bncheck.folding.torch.trusted import compare
    from bncheck.folding.torch.verify import worst

    progress("loading both models")
    proof = compare(file.model, source, made, decided.sites, options)
    if not proof.passed:
        raise CannotFold(f"{source}: {worst(proof)}; nothing was written")
    return proof
