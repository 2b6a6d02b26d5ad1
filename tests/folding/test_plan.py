"""What the planner decides where several BatchNorms meet, and which values stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx_models import model

from bncheck.folding.onnx.file import open_file
from bncheck.folding.plan import FoldPlan, plan
from bncheck.readers.source import BytesSource

W = (4, 3, 3, 3)
FLAT = "float[5,6] x"


def planned(body: str, shapes: dict[str, tuple[int, ...]], **options: Any) -> FoldPlan:
    scale_only = options.pop("scale_only", False)
    made = model(body, shapes, **options)
    return plan(open_file(BytesSource(made.SerializeToString())).graph, scale_only=scale_only)


def into(decided: FoldPlan) -> dict[str, list[str]]:
    return {fold.node.outputs[0]: [n.outputs[0] for n in fold.into] for fold in decided.folds}


def test_a_row_of_batch_norms_goes_into_one_convolution() -> None:
    decided = planned("c = Conv(x, w)\na = BN4(c)\nb = BN4(a)\ny = BN4(b)", {"w": W})
    assert into(decided) == {"a": ["c"], "b": ["c"], "y": ["c"]}
    assert decided.sites == {"y": "c"}  # what a and b were is nowhere any more


def test_one_that_took_in_another_can_go_itself() -> None:
    body = "a = BN6(x)\nb = BN6(a)\ns = Concat<axis = 1>(b, a)\ny = BN12(s)"
    decided = planned(body, {}, inputs=FLAT, rank=2)
    assert into(decided) == {"a": ["y"], "b": ["y"]}
    assert [node.outputs[0] for node in decided.kept] == ["y"]


def test_one_that_stays_takes_in_another() -> None:
    body = "a = BN3(x)\nb = BN3(a)\nr = Relu(b)\ns = Concat<axis = 1>(a, r)\ny = Conv(s, w)"
    decided = planned(body, {"w": (4, 6, 3, 3)})
    assert into(decided) == {"a": ["b", "y"]}
    assert [node.outputs[0] for node in decided.kept] == ["b"]


def test_batch_norms_meet_before_one_is_left_as_a_sum() -> None:
    body = "c = MatMul(x, w)\na = BN4(c)\ny = BN4(a)"
    decided = planned(body, {"w": (6, 4)}, inputs=FLAT, rank=2)
    assert not decided.kept
    assert len(decided.sums) == 1


def test_numbers_of_several_are_those_of_one_after_the_other() -> None:
    decided = planned("c = Conv(x, w)\na = BN4(c)\ny = BN4(a)", {"w": W})
    maps = [step.map for steps in decided.steps.values() for step in steps]
    together = maps[0].then(maps[1])
    x = np.linspace(-1, 1, 4)
    one_by_one = x
    for each in maps:
        one_by_one = np.array(each.scale()) * one_by_one + np.array(each.shift())
    at_once = np.array(together.scale()) * x + np.array(together.shift())
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-12)


def test_what_a_later_map_was_carried_over_is_no_site() -> None:
    body = "c = Conv(x, w)\na = BN4(c)\np = AveragePool<kernel_shape = [2, 2]>(a)\ny = BN4(p)"
    decided = planned(body, {"w": W})
    assert not decided.kept
    assert decided.sites == {"y": "p"}


def test_a_value_behind_a_layer_that_took_in_what_was_before() -> None:
    body = "a = BN6(x)\nc = Gemm(a, w, b)\ny = BN4(c)"
    decided = planned(body, {"w": (6, 4), "b": (4,)}, inputs=FLAT, rank=2)
    assert not decided.kept
    assert decided.sites == {"y": "c"}  # and not c as c: that is y by now


def test_a_scale_alone_only_where_it_is_wanted() -> None:
    body = "c = Conv(x, w)\np = Pad(c, n)\ny = BN4(p)"
    values = {"n": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    assert planned(body, {"w": W}, values=values).kept
    decided = planned(body, {"w": W}, values=values, scale_only=True)
    assert not decided.kept
    assert len(decided.sums) == 1
