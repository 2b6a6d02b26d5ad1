"""Folds an nn.Module: the same class, with other numbers, and Identity where BatchNorm was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

from bncheck.errors import CannotFold
from bncheck.facts import Unknown, UnknownFact
from bncheck.folding.reasons import Obstacle
from bncheck.folding.result import FoldResult, Verification, folded_layers, parameters_saved
from bncheck.folding.torch import decisions, feeds
from bncheck.folding.torch.code import Code
from bncheck.folding.torch.decisions import Decided
from bncheck.folding.torch.runs import ModuleRunner
from bncheck.folding.torch.surgery import Surgery, copied
from bncheck.folding.torch.targets import is_wrapper, require_foldable, wrapped_again
from bncheck.folding.torch.verify import fitting, verify
from bncheck.graph import Node
from bncheck.readers import tracing
from bncheck.readers.build import Origin, from_module
from bncheck.readers.live_module import LiveModule


def fold_module(
    module: Any,
    inputs: object | None = None,
    *,
    inplace: bool = False,
    verify: bool = True,
    tolerance: float | None = None,
) -> FoldResult:
    """Fold the BatchNorms of an nn.Module; what holds of calls like the one with ``inputs``.

    Layers in training mode stay. Hooks, parametrizations and subclasses keep their meaning: what
    they touch stays, with a reason. Without ``inputs`` the module is traced symbolically, and its
    proof is made on random numbers of the shapes that its layers suggest.

    Raises CannotFold where the module cannot be traced or run, or where the folded one is not the
    same within its bound. The module is then as it was.
    """
    require_foldable(module)
    fold = partial(_fold, inputs=inputs, inplace=inplace, verify=verify, tolerance=tolerance)
    return _in_wrapper(module, fold(module.module), inplace) if is_wrapper(module) else fold(module)


def _fold(
    module: Any, inputs: object | None, inplace: bool, verify: bool, tolerance: float | None
) -> FoldResult:
    root = LiveModule(module)
    found = tracing.trace(root, inputs)
    model = tracing.with_trace(from_module(root, Origin("module")), found)
    if isinstance(found, Unknown) or not found.graph.complete:
        raise CannotFold(_untraceable(found))
    target = module if inplace else copied(module)
    try:
        decided = _decided(found, module, Code(found, target, inputs))
    except UnknownFact as unknown:
        raise CannotFold(f"the fold cannot be computed: {unknown}") from unknown
    surgery = decided.prepare(target)
    proof = _proven(module, target, surgery, decided, inputs, tolerance) if verify else None
    surgery.apply()
    return FoldResult(
        folded_layers(model, decided.plan),
        decisions.kept(model, decided),
        proof,
        target,
        {
            "nodes": len(decided.plan.batch_norms),
            "parameters": parameters_saved(decided.plan),
        },
    )


def _in_wrapper(wrapper: Any, inner: FoldResult, inplace: bool) -> FoldResult:
    """What was done to the module that a wrapper holds, under the names that it has there."""
    return replace(
        inner,
        folded=tuple(
            replace(f, layer=f"module.{f.layer}", into=tuple(f"module.{name}" for name in f.into))
            for f in inner.folded
        ),
        kept=tuple(replace(each, layer=f"module.{each.layer}") for each in inner.kept),
        model=wrapper if inplace else wrapped_again(wrapper, inner.model),
    )


def _decided(found: tracing.Trace, module: Any, code: Code) -> Decided:
    """What can be folded and leaves the module's code as it is."""
    keep: dict[Node, Obstacle] = {}
    plan = partial(decisions.decide, found, module)
    while True:
        decided = plan(keep)
        refused = code.refused(decided, plan, keep)
        if not refused:
            return decided
        keep |= refused


def _untraceable(found: tracing.Trace | Unknown) -> str:
    if not isinstance(found, Unknown):
        return (
            "the module could only be run, not traced, as its code depends on its data: "
            "fold submodules that can be, as bncheck.fold(model.backbone, inputs=..., inplace=True)"
        )
    return f"the module {found.why}" + ("; give inputs=..." if found.instead else "")


def _proven(
    module: Any,
    target: Any,
    surgery: Surgery,
    decided: Decided,
    inputs: object | None,
    tolerance: float | None,
) -> Verification | None:
    """The proof; what is to be changed is unchanged where there is none."""
    if not decided.plan.batch_norms:
        return None
    try:
        original = ModuleRunner(module, surgery, False, decided.tensors)
        folded = ModuleRunner(target, surgery, True)
        proof = verify(
            original, folded, _feeds(original, decided, inputs), decided.sites, tolerance
        )
        if not proof.passed:
            raise CannotFold(f"{proof.failure}; nothing was changed")
    except BaseException:
        surgery.undo()
        raise
    return proof


def _feeds(original: ModuleRunner, decided: Decided, inputs: object | None) -> Iterator[feeds.Feed]:
    if inputs is None:
        candidates = feeds.derived(original.module, decided.graph)
        return fitting(original, candidates, feeds.GIVE)
    first = feeds.given(original.module, inputs)
    return chain([first], feeds.variations(first))
