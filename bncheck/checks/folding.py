"""BN701 and BN704: what the fold planner says of each BatchNorm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bncheck.checks.words import LISTED, label
from bncheck.facts import Unknown, UnknownFact
from bncheck.finding import Observation
from bncheck.graph import Graph, Node
from bncheck.model import Model, NormLayer
from bncheck.tensor import Tensor

if TYPE_CHECKING:
    from bncheck.folding.plan import Fold, FoldPlan
    from bncheck.folding.reasons import Obstacle

NO_ORDER = Unknown(
    "order", "the file does not tell what comes before it", "check the exported .onnx or .pt2"
)
NO_SHAPES = Unknown(
    "shapes", "the number of axes is not known here", "check the exported .onnx or .pt2"
)


def _plan_of(graph: Graph) -> FoldPlan:
    """Where there is no graph the planner is not even imported."""
    from bncheck.folding.plan import plan_of

    return plan_of(graph)


def foldable_batch_norm(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN701: operators around it can absorb it, at each place where it is called."""
    plan = _plan_of(model.order)
    folds = _folds(layer, plan)
    if _trains(layer):
        return
    if folds:
        into = [*dict.fromkeys(node for fold in folds for node in fold.into)]
        yield Observation(
            f"Can be folded{_into(into, folds)}: same outputs, one operation less.",
            {
                "into": [label(node) for node in into],
                "ops": len(folds),
                "parameters": _parameters(layer.calls[0]),
            },
        )
        return
    _require_shapes(layer, plan)
    if not model.order.complete and layer.calls and not _is_broken(layer, plan):
        raise UnknownFact(NO_ORDER)


def _folds(layer: NormLayer, plan: FoldPlan) -> list[Fold]:
    """The folds of all the layer's calls; empty unless all of them can go."""
    found = [plan.by_node[call] for call in layer.calls if call in plan.by_node]
    return found if len(found) == len(layer.calls) else []


def _trains(layer: NormLayer) -> bool:
    return layer.kind != "frozen-batch" and layer.training


def _is_broken(layer: NormLayer, plan: FoldPlan) -> bool:
    """Whether it is kept for what other rules name, and what is to be mended first."""
    from bncheck.folding.reasons import Reason

    broken = {Reason.TRAINING, Reason.BATCH_STATISTICS, Reason.NOT_FINITE}
    return any(plan.kept[call].reason in broken for call in layer.calls if call in plan.kept)


def _require_shapes(layer: NormLayer, plan: FoldPlan) -> None:
    """Raises UnknownFact where it is kept only for want of the number of axes."""
    from bncheck.folding.reasons import Reason

    kept = [plan.kept[call] for call in layer.calls if call in plan.kept]
    if any(obstacle.reason is Reason.NO_SHAPE for obstacle in kept):
        raise UnknownFact(NO_SHAPES)


def _into(into: list[Node], folds: list[Fold]) -> str:
    if not into:
        return " away: it changes nothing"
    names = ", ".join(f"{label(node)} ({node.op})" for node in into[:LISTED])
    more = f" and {len(into) - LISTED} more" if into[LISTED:] else ""
    where = ", directly before it" if all(fold.is_direct for fold in folds) else ""
    return f" into {names}{more}{where}"


def _parameters(node: Node) -> int:
    return sum(t.numel for t in node.parameters.values() if isinstance(t, Tensor))


def fold_blocked(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN704: it stays in the deployed graph, because of what is around it."""
    plan = _plan_of(model.graph)
    kept = [plan.kept[call] for call in layer.calls if call in plan.kept]
    if kept and not _is_broken(layer, plan):
        _require_shapes(layer, plan)
        yield Observation(f"Cannot be folded: {kept[0]}.", _evidence(kept[0]))


def _evidence(why: Obstacle) -> dict[str, object]:
    at = {} if why.node is None else {"node": label(why.node), "op": why.node.op}
    return {"reason": why.reason.value, **at}
