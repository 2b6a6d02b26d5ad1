"""What the fold planner proves about the layer directly before a BatchNorm."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.facts import Unknown
from bncheck.folding.plan import plan

COMPUTED = Unknown("weight", "it is computed")
FOUR = {role: [1.0, 2.0] for role in ("weight", "bias", "running_mean", "running_var")}
WEIGHT = {"weight": [1.0, 2.0]}


def absorbs(make: Any, before: Any, norm: Any, *others: Any, **graph: Any) -> bool:
    folds = plan(make.graph(before, norm, *others, **graph), copies_parameters=False).folds
    return any(fold.node is norm and fold.into == (before,) and fold.is_direct for fold in folds)


@pytest.mark.parametrize(
    ("kind", "op", "shapes", "expected"),
    [
        ("conv", "Conv", {}, True),
        ("conv-transpose", "ConvTranspose", {}, True),
        ("linear", "Gemm", {"c": (None, 2)}, True),
        ("linear", "MatMul", {"c": (None, 2)}, True),
        ("linear", "MatMul", {"c": (None, 2, 2)}, False),  # BatchNorm1d normalizes axis 1 of 3
        ("linear", "Linear", {}, False),
        ("relu", "Relu", {}, False),
        ("opaque", "Custom", {}, False),
    ],
)
def test_what_absorbs(make: Any, kind: str, op: str, shapes: Any, expected: bool) -> None:
    weight = make.tensor([1.0, 2.0], (2, 1, 1) if kind.startswith("conv") else (1, 2))
    weight.shape = (1, 2, 1) if kind == "conv-transpose" else weight.shape
    before = make.node(kind, "x", "c", {"weight": weight}, op=op, groups=1)
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


def test_parameters_may_be_copied_where_that_is_allowed(make: Any) -> None:
    weight = make.tensor([1.0, 2.0])
    before = make.node("conv", "x", "c", {"weight": weight})
    norm = make.node("batch-norm", "c", "y", FOUR)
    twin = make.node("conv", "x", "d", {"weight": weight})
    (fold,) = plan(make.graph(before, norm, twin)).folds
    assert fold.into == (before,)


@pytest.mark.parametrize("data", ["x", ""])
def test_an_input_absorbs_nothing(make: Any, data: str) -> None:
    norm = make.node("batch-norm", data, "y", FOUR)
    assert plan(make.graph(norm)).folds == ()
