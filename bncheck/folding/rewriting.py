"""How a zip archive becomes a folded one, whatever is in it: planned, written, proved, published.

The two archives are only run where the user trusts the file: torch unpickles records of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The entries of a folded archive, and how many nodes went."""

    parts: Iterator[Part]
    nodes_saved: int


Rewrite = Callable[[FoldPlan], Rewritten]


def fold_archive(
    file: Opened,
    rewrite: Rewrite,
    source: Path,
    target: Path,
    options: Options,
    progress: Progress,
) -> FoldResult:
    """Write a folded archive; see ``folding.fold`` for what it raises."""
    require_apart(source, target)
    if options.verify and not options.trust:
        raise CannotFold(NOT_PROVED.format(source=source))
    with Staging(target) as staging:
        decided, made, path = _write(file, rewrite, staging, target.name, options)
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
    file: Opened, rewrite: Rewrite, staging: Staging, name: str, options: Options
) -> tuple[FoldPlan, Rewritten, Path]:
    """A fold whose numbers do not fit its dtype is given up, and all is written without it."""
    graph = _graph(file)
    keep: dict[Node, Obstacle] = {}
    while True:
        decided = _plan(file, graph, keep, options.scale_only)
        try:
            with all_values():
                made = rewrite(decided)
                return decided, made, staging.write(name, written(made.parts))
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
