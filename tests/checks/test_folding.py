"""BN701 and BN704 on graphs made by hand; what may be folded is tested in test_plan."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.checks.folding import fold_blocked, foldable_batch_norm
from bncheck.facts import UnknownFact

FOUR = {role: [1.0, 2.0] for role in ("weight", "bias", "running_mean", "running_var")}


def conv_and_norm(make: Any, number: int = 0) -> tuple[Any, Any]:
    conv = make.node("conv", "x", f"conv{number}", {"weight": [1.0, 2.0]}, op="Conv2d")
    return conv, make.node("batch-norm", f"conv{number}", f"n{number}", FOUR)


def test_foldable_batch_norm_says_into_what_and_what_it_saves(make: Any) -> None:
    conv, norm = conv_and_norm(make)
    layer = make.layer(calls=(norm,), training=False)
    (observation,) = foldable_batch_norm(layer, make.model(layer, order=make.graph(conv, norm)))
    assert observation.message.startswith("Can be folded into conv0 (Conv2d), directly before it")
    assert observation.evidence == {"into": ["conv0"], "ops": 1, "parameters": 8}


@pytest.mark.parametrize(
    ("kind", "facts", "found"),
    [
        ("batch", {"training": False}, True),
        ("batch", {"training": True}, False),
        ("frozen-batch", {}, True),  # it has no mode
    ],
)
def test_a_layer_in_training_is_not_folded(
    make: Any, kind: Any, facts: dict[str, object], found: bool
) -> None:
    conv, norm = conv_and_norm(make)
    layer = make.layer(kind, calls=(norm,), **facts)
    model = make.model(layer, order=make.graph(conv, norm))
    assert bool(make.seen(foldable_batch_norm(layer, model))) is found


def test_a_shared_layer_is_folded_into_each_of_its_places_or_nowhere(make: Any) -> None:
    pairs = [conv_and_norm(make, number) for number in range(2)]
    calls = tuple(norm for _, norm in pairs)
    layer = make.layer(calls=calls, training=False)
    both = make.graph(*pairs[0], *pairs[1])
    (observation,) = foldable_batch_norm(layer, make.model(layer, graph=both))
    assert observation.evidence["into"] == ["conv0", "conv1"]
    one = make.graph(*pairs[0], calls[1])
    assert make.seen(foldable_batch_norm(layer, make.model(layer, graph=one))) == []


def test_a_layer_that_is_never_called_is_not_folded(make: Any) -> None:
    layer = make.layer(calls=(), training=False)
    assert make.seen(foldable_batch_norm(layer, make.model(layer, graph=make.graph()))) == []


def test_order_is_needed(make: Any) -> None:
    layer = make.layer(training=False)
    with pytest.raises(UnknownFact, match="order"):
        list(foldable_batch_norm(layer, make.model(layer)))
    with pytest.raises(UnknownFact, match="graph"):
        list(fold_blocked(layer, make.model(layer)))


def test_what_an_incomplete_order_does_not_tell_is_not_assessed(make: Any) -> None:
    _, norm = conv_and_norm(make)
    layer = make.layer(calls=(norm,), training=False)
    alone = make.graph(norm, complete=False)
    with pytest.raises(UnknownFact, match="order"):
        list(foldable_batch_norm(layer, make.model(layer, order=alone)))


def test_a_linear_op_on_data_of_unknown_rank_is_not_assessed(make: Any) -> None:
    """Behind (N, C) it could absorb a BatchNorm; behind (N, L, C) the channels are L."""
    linear = make.node("linear", "x", "h", {"weight": ([1.0, 2.0], (2, 1))}, transB=True)
    norm = make.node("batch-norm", "h", "n", FOUR)
    layer = make.layer(calls=(norm,), training=False)
    model = make.model(layer, graph=make.graph(linear, norm))
    for check in (foldable_batch_norm, fold_blocked):
        with pytest.raises(UnknownFact, match="number of axes"):
            list(check(layer, model))


@pytest.mark.parametrize(
    ("outputs", "reason"), [("n0", None), ("n0 conv0", "model-output")], ids=["folded", "kept"]
)
def test_fold_blocked_names_the_reason(make: Any, outputs: str, reason: str | None) -> None:
    conv, norm = conv_and_norm(make)
    layer = make.layer(calls=(norm,), training=False)
    graph = make.graph(conv, norm, outputs=outputs)
    found = [*fold_blocked(layer, make.model(layer, graph=graph))]
    assert [each.evidence["reason"] for each in found] == ([reason] if reason else [])
