"""Folds an nn.Module: the same class, with other numbers, and Identity where BatchNorm was."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from typing import Any

from bncheck.errors import CannotFold
from bncheck.folding.arithmetic import Array, new_parameters, rounded
from bncheck.folding.plan import FoldPlan, plan
from bncheck.folding.reasons import Blocked, Obstacle, Reason
from bncheck.folding.result import FoldResult, folded_layers, kept_layers, parameters_saved
from bncheck.folding.torch.owners import Owners
from bncheck.graph import Graph, Node
from bncheck.model import Model
from bncheck.readers import live

Numbers = Mapping[Node, Mapping[str, Array]]


def fold_module(
    module: Any,
    inputs: object | None = None,
    *,
    inplace: bool = False,
    verify: bool = True,
    tolerance: float | None = None,
) -> FoldResult:
    """Fold the BatchNorms of a module.

    Raises CannotFold where the module cannot be traced.
    """
    target = module if inplace else copy.deepcopy(module)
    (model,) = live.read(target, inputs)
    if not model.knows(Model.graph):
        raise CannotFold(f"the module {_why(model)}")
    owners = Owners(target)
    decided, numbers = _decide(model.graph, owners)
    for node, arrays in numbers.items():
        _put(node, arrays, owners)
    identity = importlib.import_module("torch").nn.Identity
    for fold in decided.batch_norms:
        _replace(target, fold.node.name, identity())
    return FoldResult(
        folded_layers(model, decided),
        kept_layers(model, decided.kept),
        model=target,
        saved={"nodes": len(decided.batch_norms), "parameters": parameters_saved(decided)},
    )


def _why(model: Model) -> str:
    unknown = model.facts["graph"]
    return str(getattr(unknown, "why", unknown))


def _decide(graph: Graph, owners: Owners) -> tuple[FoldPlan, Numbers]:
    """A plan that holds for whole modules, and its numbers."""
    keep: dict[Node, Obstacle] = {}
    while True:
        decided = plan(graph, owners.objection, keep=keep, copies_parameters=False, rewires=False)
        numbers, refused = _numbers(decided, graph, owners)
        refused |= _half_folded(decided, graph)
        if not refused:
            return decided, numbers
        keep |= refused


def _numbers(
    decided: FoldPlan, graph: Graph, owners: Owners
) -> tuple[Numbers, dict[Node, Obstacle]]:
    numbers: dict[Node, Mapping[str, Array]] = {}
    refused: dict[Node, Obstacle] = {}
    for node in graph.nodes:
        steps = decided.steps.get(id(node))
        if not steps:
            continue
        try:
            numbers[node] = _fitting(node, new_parameters(node, steps), owners)
        except Blocked as blocked:
            into = [fold.node for fold in decided.folds if node in fold.into]
            refused |= dict.fromkeys(into, blocked.obstacle)
    return numbers, refused


def _fitting(node: Node, arrays: Mapping[str, Array], owners: Owners) -> Mapping[str, Array]:
    """The arrays, where the module has a place for each and its dtype holds the numbers."""
    if "bias" in arrays and owners.bias_of(node) is None:
        raise Blocked(Reason.NO_BIAS, node)
    for array in arrays.values():
        rounded(array, _dtype(node))
    return arrays


def _dtype(node: Node) -> str:
    weight = node.parameters["weight"]
    return str(getattr(weight, "dtype", ""))


def _half_folded(decided: FoldPlan, graph: Graph) -> dict[Node, Obstacle]:
    """BatchNorms of which another call stays: a module goes as a whole."""
    gone = {fold.node for fold in decided.batch_norms}
    kept = {node.name for node in decided.kept}
    why = Obstacle(Reason.SEVERAL_CALLS)
    return {node: why for node in gone if node.name in kept}


def _put(node: Node, arrays: Mapping[str, Array], owners: Owners) -> None:
    torch = importlib.import_module("torch")
    weight = node.parameters["weight"]
    place = owners.place(weight)  # type: ignore[arg-type]
    assert place is not None
    like = getattr(*place)
    for role, array in arrays.items():
        where = place if role == "weight" else owners.bias_of(node)
        assert where is not None
        owner, name = where
        new = torch.from_numpy(array.copy()).to(dtype=like.dtype, device=like.device)
        held = getattr(owner, name)
        if held is None:
            setattr(owner, name, torch.nn.Parameter(new, requires_grad=like.requires_grad))
        else:
            held.data = new.reshape(held.shape)


def _replace(module: Any, path: str, new: Any) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent) if parent else module, name, new)
