"""BN7xx on graphs made by hand."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from bncheck.checks.export import non_finite_folded
from bncheck.facts import Unknown


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
