"""Folds a torch.export.ExportedProgram into a new one, with the same inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from bncheck.errors import CannotFold
from bncheck.folding.carrying import carried_out
from bncheck.folding.plan import FoldPlan
from bncheck.folding.program.edit import Edit
from bncheck.folding.program.inputs import feeds
from bncheck.folding.program.listing import Listing
from bncheck.folding.program.runs import ProgramRunner
from bncheck.folding.result import (
    FoldResult,
    Verification,
    folded_layers,
    kept_layers,
    parameters_saved,
)
from bncheck.folding.torch.verify import verify as verified
from bncheck.tensor import Tensor

OF_TRAINING = ("GRADIENT_TO_PARAMETER", "GRADIENT_TO_USER_INPUT")


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
    same within its bound, or where it computes gradients; UnreadableModel where it is in a form
    that is not known.
    """
    listing = Listing(program)
    if any(each.kind.name in OF_TRAINING for each in program.graph_signature.output_specs):
        raise CannotFold("the program computes gradients: export the model for inference")
    made = carried_out(listing, partial(_made, listing))
    proof = _proven(listing, made, inputs, tolerance) if verify and made.plan.folds else None
    return FoldResult(
        folded_layers(listing.model, made.plan),
        kept_layers(listing.model, made.plan.kept),
        proof,
        made.program,
        {"nodes": made.nodes_saved, "parameters": parameters_saved(made.plan)},
    )


def _made(listing: Listing, decided: FoldPlan) -> Made:
    edit = Edit(listing, decided)
    return Made(edit.program(), decided, edit.nodes_saved)


def _proven(
    listing: Listing, made: Made, inputs: object | None, tolerance: float | None
) -> Verification:
    sites = made.plan.sites
    original = ProgramRunner(
        listing.exported, {site: site for site in sites}, [*_tensors(listing, made)]
    )
    folded = ProgramRunner(made.program, sites)
    proof = verified(original, folded, feeds(listing.exported, inputs), [*sites], tolerance)
    if not proof.passed:
        raise CannotFold(f"{proof.failure}; nothing was changed")
    return proof


def _tensors(listing: Listing, made: Made) -> Iterator[str]:
    """The qualified names of the tensors that are folded, and of those that take them in."""
    touched = {id(fold.node) for fold in made.plan.folds} | {*made.plan.steps}
    held = {id(parameter.tensor): name for name, parameter in listing.program.tensors.items()}
    for node in listing.graph.nodes:
        if id(node) in touched:
            tensors = (each for each in node.parameters.values() if isinstance(each, Tensor))
            yield from (held[id(each)] for each in tensors if id(each) in held)
