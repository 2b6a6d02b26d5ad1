"""What the fold planner proves about the layer directly before a BatchNorm."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.facts import Unknown
from bncheck.fold.plan import absorber

COMPUTED = Unknown("weight", "it is computed")
FOUR = {role: [1.0, 2.0] for role in ("weight", "bias", "running_mean", "running_var")}
WEIGHT = {"weight": [1.0, 2.0]}


def absorbs(make: Any, before: Any, norm: Any, *others: Any, **graph: Any) -> bool:
    return absorber(make.graph(before, norm, *others, **graph), norm) is before


@pytest.mark.parametrize(
    ("kind", "op", "shapes", "expected"),
    [
        ("conv", "Conv", {}, True),
        ("conv-transpose", "ConvTranspose", {}, True),
        ("linear", "Gemm", {}, True),
        ("linear", "MatMul", {"c": (None, 2)}, True),
        ("linear", "MatMul", {"c": (None, 2, 2)}, False),  # BatchNorm1d normalizes axis 1 of 3
        ("linear", "Linear", {}, False),
        ("relu", "Relu", {}, False),
        ("opaque", "Custom", {}, False),
    ],
)
def test_what_absorbs(make: Any, kind: str, op: str, shapes: Any, expected: bool) -> None:
    before = make.node(kind, "x", "c", WEIGHT, op=op)
    assert absorbs(make, before, make.node("batch-norm", "c", "y", FOUR), shapes=shapes) is expected


@pytest.mark.parametrize(
    ("kind", "parameters", "attributes", "expected"),
    [
        ("batch-norm", FOUR, {"training": False}, True),
        ("batch-norm", FOUR, {}, True),
        ("batch-norm", {r: FOUR[r] for r in ("running_mean", "running_var")}, {}, True),
        ("batch-norm", FOUR, {"training": True}, False),
        ("batch-norm", WEIGHT, {}, False),  # no running statistics
        ("batch-norm", {**FOUR, "running_var": COMPUTED}, {}, False),
        ("batch-norm", {**FOUR, "bias": COMPUTED}, {}, False),
        ("instance-norm", FOUR, {}, False),
        ("opaque", FOUR, {}, False),  # a subclass with a forward of its own
    ],
)
def test_what_is_absorbed(
    make: Any, kind: str, parameters: Any, attributes: Any, expected: bool
) -> None:
    before = make.node("conv", "x", "c", WEIGHT)
    norm = make.node(kind, "c", "y", parameters, **attributes)
    assert absorbs(make, before, norm) is expected


@pytest.mark.parametrize("parameters", [{}, {"weight": COMPUTED}, {**WEIGHT, "bias": COMPUTED}])
def test_parameters_must_be_constants(make: Any, parameters: Any) -> None:
    before = make.node("conv", "x", "c", parameters)
    assert not absorbs(make, before, make.node("batch-norm", "c", "y", FOUR))


@pytest.mark.parametrize(("source", "expected"), [("shape-of-weight", True), ("x", False)])
def test_a_bias_computed_from_constants_is_one(make: Any, source: str, expected: bool) -> None:
    """PyTorch's default exporter, unoptimized, expands the zero bias of a convolution."""
    expand = make.node("opaque", source, "zeros")
    before = make.node("conv", "x zeros", "c", {**WEIGHT, "bias": COMPUTED})
    norm = make.node("batch-norm", "c", "y", FOUR)
    assert (absorber(make.graph(expand, before, norm), norm) is before) is expected


def test_nothing_else_may_read_what_changes(make: Any) -> None:
    before = make.node("conv", "x", "c", WEIGHT)
    norm = make.node("batch-norm", "c", "y", FOUR)
    assert not absorbs(make, before, norm, make.node("relu", "c", "r"))
    assert not absorbs(make, before, norm, outputs="y c")


def test_a_weight_that_another_node_holds_too_stays(make: Any) -> None:
    weight = make.tensor([1.0, 2.0])
    before = make.node("conv", "x", "c", {"weight": weight})
    norm = make.node("batch-norm", "c", "y", FOUR)
    twin = make.node("conv", "x", "d", {"weight": weight})
    assert absorbs(make, before, norm)
    assert not absorbs(make, before, norm, twin)


def test_views_of_one_storage_are_one_weight(make: Any) -> None:
    first, second = make.tensor([1.0, 2.0]), make.tensor([1.0, 2.0])
    first.storage = second.storage = "0"
    before = make.node("conv", "x", "c", {"weight": first})
    twin = make.node("conv", "x", "d", {"weight": second})
    assert not absorbs(make, before, make.node("batch-norm", "c", "y", FOUR), twin)


def test_equal_biases_may_be_one_tensor(make: Any) -> None:
    """An exporter stores equal initializers once; each fold writes a bias of its own."""
    zeros = make.tensor([0.0, 0.0])
    before = make.node("conv", "x", "c", {**WEIGHT, "bias": zeros})
    twin = make.node("conv", "x", "d", {"weight": [3.0, 4.0], "bias": zeros})
    assert absorbs(make, before, make.node("batch-norm", "c", "y", FOUR), twin)


@pytest.mark.parametrize("data", ["x", ""])
def test_an_input_absorbs_nothing(make: Any, data: str) -> None:
    norm = make.node("batch-norm", data, "y", FOUR)
    assert absorber(make.graph(norm), norm) is None
