"""BN7xx on graphs made by hand; what may be folded is tested in test_plan."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from bncheck.checks.export import foldable_batch_norm, non_finite_folded
from bncheck.facts import Unknown, UnknownFact

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
        list(non_finite_folded(make.model(layer)))


@pytest.mark.parametrize(
    ("kind", "parameters", "found"),
    [
        ("conv", {"bias": [1.0, nan]}, True),
        ("conv-transpose", {"bias": [-inf, 0.0]}, True),
        ("linear", {"bias": [nan, nan]}, True),
        ("conv", {"bias": [1.0, 2.0]}, False),
        ("conv", {}, False),
        ("batch-norm", {"bias": [nan, 0.0]}, False),  # BN401
        ("add", {"bias": [nan, 0.0]}, False),
    ],
)
def test_non_finite_folded(make: Any, kind: str, parameters: Any, found: bool) -> None:
    graph = make.graph(make.node(kind, "x", "y", parameters))
    assert bool(make.seen(non_finite_folded(make.model(graph=graph)))) is found


def test_a_bias_that_is_no_constant_is_left_out(make: Any) -> None:
    computed = make.node("conv", "x", "y", {"bias": Unknown("bias", "it is computed")})
    assert make.seen(non_finite_folded(make.model(graph=make.graph(computed)))) == []


def test_non_finite_folded_is_said_once_for_a_model(make: Any) -> None:
    nodes = [make.node("conv", "x", f"c{n}", {"bias": [0.0, nan]}, op="Conv") for n in range(40)]
    (observation,) = non_finite_folded(make.model(graph=make.graph(*nodes)))
    assert observation.message.startswith(
        "The bias of c0 (Conv) is not finite in channel 1 of 2, and of 39 more:"
    )
    assert observation.evidence["count"] == 40
    assert len(observation.evidence["nodes"]) == 16
    assert observation.evidence["nodes"][0] == {
        "name": "c0",
        "op": "Conv",
        "channels": [1],
        "count": 1,
        "of": 2,
    }
