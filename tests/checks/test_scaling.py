"""Which constants scale or shift each channel of a linear op."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.checks.scaling import scales_or_shifts
from bncheck.facts import Unknown


def linear_op(make: Any, kind: str, shape: tuple[int, ...], **attributes: object) -> Any:
    count = 1
    for size in shape:
        count *= size
    return make.node(kind, "x", "c", {"weight": make.tensor([1.0] * count, shape)}, **attributes)


CONV = ("conv", (2, 3, 1, 1), {})
CONV_1D = ("conv", (2, 3, 1), {})
GROUPED = ("conv-transpose", (4, 1, 1, 1), {"groups": 2})  # 4 channels to 2
LINEAR = ("linear", (3, 2), {})
TRANSPOSED = ("linear", (2, 3), {"transB": True})


def judge(make: Any, linear: Any, node: Any, *others: Any, **fields: Any) -> bool:
    made = linear_op(make, linear[0], linear[1], **linear[2])
    return scales_or_shifts(make.graph(made, *others, node, **fields), node, made)


@pytest.mark.parametrize(
    ("linear", "shape", "found"),
    [
        (CONV, (2, 1, 1), True),
        (CONV, (1, 2, 1, 1), True),
        (CONV, (2,), False),  # along the width
        (CONV, (2, 1), False),
        (CONV, (2, 1, 1, 1), False),  # along the batch
        (CONV, (1, 2, 1, 2), False),
        (CONV, (3, 1, 1), False),
        (CONV, (), False),
        (CONV_1D, (2, 1), True),
        (CONV_1D, (2, 1, 1), False),
        (GROUPED, (2, 1, 1), True),
        (GROUPED, (4, 1, 1), False),
        (LINEAR, (2,), True),
        (LINEAR, (1, 2), True),
        (LINEAR, (3,), False),
        (LINEAR, (2, 1), False),
        (TRANSPOSED, (2,), True),
        (TRANSPOSED, (3,), False),
    ],
)
def test_the_constant_has_the_axis_of_the_channels(
    make: Any, linear: Any, shape: tuple[int, ...], found: bool
) -> None:
    count = 1
    for size in shape:
        count *= size
    for kind, role in (("mul", "weight"), ("add", "bias")):
        node = make.node(kind, "c", "y", {role: make.tensor([1.0] * count, shape)})
        assert judge(make, linear, node) is found


@pytest.mark.parametrize(
    ("kind", "attributes", "found"),
    [
        ("mul", {"divide": True}, True),
        ("mul", {"divide": True, "reversed": True}, False),  # c / x
        ("add", {"subtract": True}, True),
        ("add", {"subtract": True, "reversed": True}, True),  # c - x
        ("relu", {}, False),
    ],
)
def test_what_is_affine(make: Any, kind: str, attributes: Any, found: bool) -> None:
    role = "weight" if kind == "mul" else "bias"
    held = {role: make.tensor([1.0, 2.0], (2, 1, 1))}
    assert judge(make, CONV, make.node(kind, "c", "y", held, **attributes)) is found


@pytest.mark.parametrize(("axis", "found"), [(1, True), (0, False), (2, False)])
def test_an_old_broadcast_begins_at_its_axis(make: Any, axis: int, found: bool) -> None:
    node = make.node("mul", "c", "y", {"weight": [1.0, 2.0]}, axis=axis)
    assert judge(make, CONV, node) is found


def test_one_channel_is_no_channel_by_itself(make: Any) -> None:
    node = make.node("mul", "c", "y", {"weight": make.tensor([2.0], (1, 1, 1))})
    assert not judge(make, ("conv", (1, 3, 1, 1), {}), node)


def test_a_weight_that_is_not_stored_tells_no_channels(make: Any) -> None:
    computed = make.node("conv", "x", "c", {"weight": Unknown("weight", "it is computed")})
    node = make.node("mul", "c", "y", {"weight": make.tensor([1.0, 2.0], (2, 1, 1))})
    assert not scales_or_shifts(make.graph(computed, node), node, computed)


def reshaped(make: Any, value: str, made: str, **attributes: object) -> Any:
    return make.node("reshape", value, made, **attributes)


@pytest.mark.parametrize(
    ("shape_of", "found"),
    [
        pytest.param({"shape": (1, -1, 1, 1)}, True, id="view(1, -1, 1, 1)"),
        pytest.param({"shape": (1, 1, 1, -1)}, False, id="along the width"),
        pytest.param({"shape": (1, None, 1, 1)}, False, id="computed"),
        pytest.param({"unsqueeze": (1,)}, False, id="one axis too few"),
    ],
)
def test_a_constant_that_is_computed(make: Any, shape_of: Any, found: bool) -> None:
    """As a frozen BatchNorm does it: weight * rsqrt(running_var + eps), for each channel."""
    scale = make.node("mul", "var", "scale", {"weight": [1.0, 2.0]})
    shaped = reshaped(make, "scale", "shaped", **shape_of)
    for order in ("c shaped", "shaped c"):
        node = make.node("mul", order, "y")
        assert judge(make, CONV, node, scale, shaped) is found


def test_axes_are_added_one_by_one(make: Any) -> None:
    scale = make.node("mul", "var", "scale", {"weight": [1.0, 2.0]})
    same = make.node("identity", "scale", "same")
    first = reshaped(make, "same", "first", unsqueeze=(1,))
    second = reshaped(make, "first", "second", unsqueeze=(-1,))
    assert judge(make, CONV, make.node("mul", "c second", "y"), scale, same, first, second)


def test_a_stated_shape_is_believed(make: Any) -> None:
    node = make.node("mul", "c scale", "y")
    assert judge(make, CONV, node, shapes={"scale": (1, 2, 1, 1)})
    assert not judge(make, CONV, node, shapes={"scale": (1, None, 1, 1)})
    assert not judge(
        make, CONV, make.node("mul", "scale c", "y", divide=True), shapes={"scale": (1, 2, 1, 1)}
    )


def test_two_data_are_no_constant(make: Any) -> None:
    gate = make.node("activation", "x", "gate")
    node = make.node("mul", "c gate", "y")
    assert not judge(make, CONV, node, gate, shapes={"gate": (1, 2, 1, 1)})
