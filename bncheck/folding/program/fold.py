"""Folds a torch.export.ExportedProgram into a new one, with the same inputs and outputs."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bncheck.errors import CannotFold
from bncheck.folding.memory import unsafe
from bncheck.folding.plan import FoldPlan, plan
from bncheck.folding.program.edit import Edit
from bncheck.folding.program.listing import Listing
from bncheck.folding.program.runs import ProgramRunner
from bncheck.folding.reasons import Blocked, Obstacle
from bncheck.folding.result import (
    FoldResult,
    Verification,
    folded_layers,
    kept_layers,
    parameters_saved,
)
from bncheck.folding.torch import feeds
from bncheck.folding.torch.verify import verify as verified
from bncheck.folding.torch.verify import worst
from bncheck.graph import Node
from bncheck.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Made:
    """A folded program, by which plan, and how many operations it has fewer."""

    program: Any
    plan: FoldPlan
    nodes_saved: int


def fold_program(
    program: Any,
    inputs: object | None = None,
    *,
    verify: bool = True,
    tolerance: float | None = None,
) -> FoldResult:
    """Fold the BatchNorms of an ExportedProgram; the program itself stays as it is.

    ``inputs`` are the arguments of a call; by default the program's example inputs, else random
    numbers. Raises CannotFold where the program does not run, or where the folded one is not the
    same within its bound; UnreadableModel where it is in a form that is not known.
    """
    listing = Listing(program)
    made = _made(listing)
    proof = _proven(listing, made, inputs, tolerance) if verify and made.plan.folds else None
    return FoldResult(
        folded_layers(listing.model, made.plan),
        kept_layers(listing.model, made.plan.kept),
        proof,
        made.program,
        {"nodes": made.nodes_saved, "parameters": parameters_saved(made.plan)},
    )


def _made(listing: Listing) -> Made:
    """What cannot be carried out is given up, and all is made without it."""
    keep: dict[Node, Obstacle] = {}
    while True:
        decided = plan(listing.graph, listing.objection, keep=keep)
        refused = {**unsafe(decided, listing.graph, listing.in_place)}
        if not refused:
            try:
                edit = Edit(listing, decided)
                return Made(edit.program(), decided, edit.nodes_saved)
            except Blocked as blocked:
                refused = _to_keep(decided, blocked.obstacle)
        keep |= refused


def _to_keep(decided: FoldPlan, why: Obstacle) -> dict[Node, Obstacle]:
    """The folds that need a node to take in what it cannot."""
    return {fold.node: why for fold in decided.folds if why.node in (fold.node, *fold.into)}


def _proven(
    listing: Listing, made: Made, inputs: object | None, tolerance: float | None
) -> Verification:
    sites = made.plan.sites
    original = ProgramRunner(
        listing.exported, {site: site for site in sites}, [*_tensors(listing, made)]
    )
    folded = ProgramRunner(made.program, sites)
    proof = verified(original, folded, _feeds(listing.exported, inputs), [*sites], tolerance)
    if not proof.passed:
        raise CannotFold(f"{worst(proof)}; nothing was changed")
    return proof


def _tensors(listing: Listing, made: Made) -> Iterator[str]:
    """The qualified names of the tensors that are folded, and of those that take them in."""
    touched = {id(fold.node) for fold in made.plan.folds} | {*made.plan.steps}
    held = {id(parameter.tensor): name for name, parameter in listing.program.tensors.items()}
    for node in listing.graph.nodes:
        if id(node) in touched:
            tensors = (each for each in node.parameters.values() if isinstance(each, Tensor))
            yield from (held[id(each)] for each in tensors if id(each) in held)


def _feeds(program: Any, inputs: object | None) -> Iterator[feeds.Feed]:
    first = _given(inputs) or _example(program) or _random(program)
    yield first
    yield from feeds.variations(first)


def _given(inputs: object | None) -> feeds.Feed | None:
    if inputs is None:
        return None
    if isinstance(inputs, dict):
        return feeds.Feed((), inputs)
    return feeds.Feed(tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,))


def _example(program: Any) -> feeds.Feed | None:
    held = program.example_inputs
    return feeds.Feed(tuple(held[0]), dict(held[1])) if held else None


def _random(program: Any) -> feeds.Feed:
    """Numbers of the shapes that the program was exported with."""
    torch: Any = importlib.import_module("torch")
    pytree: Any = importlib.import_module("torch.utils._pytree")
    names = program.graph_signature.user_inputs
    nodes = {node.name: node for node in program.graph.nodes}
    made = []
    for name in names:
        like = nodes[name].meta["val"] if isinstance(name, str) and name in nodes else name
        made.append(_like(torch, like) if isinstance(like, torch.Tensor) else like)
    args, kwargs = pytree.tree_unflatten(made, program.call_spec.in_spec)
    return feeds.Feed(tuple(args), dict(kwargs))


def _like(torch: Any, fake: Any) -> Any:
    shape = [int(size) for size in fake.shape]
    if fake.is_floating_point():
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(fake.dtype)
    return torch.zeros(shape, dtype=fake.dtype)
