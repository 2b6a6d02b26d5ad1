"""BN7xx: what an exporter made of a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from bncheck.checks.words import LISTED, channels, label, where
from bncheck.finding import Observation
from bncheck.graph import Node, NodeKind
from bncheck.model import Model
from bncheck.tensor import Tensor

FOLD_TARGETS = frozenset({NodeKind.CONV, NodeKind.CONV_TRANSPOSE, NodeKind.LINEAR})


def non_finite_folded(model: Model) -> Iterator[Observation]:
    """BN709: NaN or infinity in the bias of a linear op."""
    broken = [
        (node, bias)
        for node in model.graph.nodes
        if (bias := _bias(node)) is not None and not bias.finite
    ]
    if broken:
        node, bias = broken[0]
        others = f", and of {len(broken) - 1} more" if broken[1:] else ""
        places = _non_finite(bias)
        yield Observation(
            f"The bias of {label(node)} ({node.op}) is not finite in {where(places, bias.numel)}"
            f"{others}: broken BatchNorm statistics were folded in, or training diverged.",
            {"count": len(broken), "nodes": [_evidence(*each) for each in broken[:LISTED]]},
        )


def _bias(node: Node) -> Tensor | None:
    bias = node.parameters.get("bias") if node.kind in FOLD_TARGETS else None
    return bias if isinstance(bias, Tensor) else None


def _non_finite(tensor: Tensor) -> tuple[int, ...]:
    return tensor.where(lambda value: not math.isfinite(value))


def _evidence(node: Node, bias: Tensor) -> Mapping[str, object]:
    return {"name": label(node), "op": node.op, **channels(_non_finite(bias), bias.numel)}
