"""Folds an nn.Module: the same class, with other numbers, and Identity where BatchNorm was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bncheck.errors import CannotFold
from bncheck.facts import Unknown
from bncheck.folding.result import FoldResult, Verification, parameters_saved
from bncheck.folding.torch import decisions, feeds
from bncheck.folding.torch.decisions import Decided
from bncheck.folding.torch.runs import ModuleRunner
from bncheck.folding.torch.surgery import Surgery, copied
from bncheck.folding.torch.targets import require_foldable
from bncheck.folding.torch.verify import line, verify, worst
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
    root = LiveModule(module)
    found = tracing.trace(root, inputs)
    model = tracing.with_trace(from_module(root, Origin("module")), found)
    if isinstance(found, Unknown) or not found.graph.complete:
        raise CannotFold(_untraceable(found, inputs))
    decided = decisions.decide(model, found, module)
    target = module if inplace else copied(module)
    surgery = decided.prepare(target)
    proof = _proven(module, target, surgery, decided, inputs, tolerance) if verify else None
    surgery.apply()
    return FoldResult(
        decisions.folded(model, decided),
        decisions.kept(model, decided),
        proof,
        target,
        {
            "nodes": len(decided.plan.batch_norms),
            "parameters": parameters_saved(decided.plan),
        },
    )


def _untraceable(found: tracing.Trace | Unknown, inputs: object | None) -> str:
    why = found.why if isinstance(found, Unknown) else "could only be run, not traced"
    return f"the module {why}" + ("; give inputs=..." if inputs is None else "")


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
            raise CannotFold(f"{worst(proof)}; nothing was changed")
    except BaseException:
        surgery.undo()
        raise
    return proof


def _feeds(original: ModuleRunner, decided: Decided, inputs: object | None) -> Iterator[feeds.Feed]:
    if inputs is not None:
        first = feeds.given(original.module, inputs)
    else:
        first = _first_that_works(original, decided)
    yield first
    yield from feeds.variations(first)


def _first_that_works(original: ModuleRunner, decided: Decided) -> feeds.Feed:
    problem = ""
    for feed in feeds.derived(original.module, decided.graph):
        try:
            original.run(feed, ())
        except Exception as error:  # a size that does not fit
            problem = problem or line(error)
        else:
            return feed
    raise CannotFold(f"the module does not run on random inputs: {problem}; {feeds.GIVE}")
