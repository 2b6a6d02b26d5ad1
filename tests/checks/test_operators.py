"""BN706 and BN707 on nodes made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.checks.operators import extra_outputs, old_onnx_attributes
from bncheck.graph import Node, NodeKind


def old(make: Any, version: int, *outdated: str, shape: Any = (2,), **attributes: Any) -> str:
    """What is said of an operator of some version with some attributes; "" for nothing."""
    held = {"running_mean": make.tensor([0.5] * 8 if shape != (2,) else [0.5] * 2, shape)}
    call = make.node(
        "batch-norm",
        "x",
        "y",
        held,
        version=version,
        **({"outdated": outdated} if outdated else {}),
        **attributes,
    )
    seen = make.seen(old_onnx_attributes(make.layer(calls=(call,))))
    return seen[0][1] if seen else ""


@pytest.mark.parametrize(
    ("version", "outdated", "attributes", "message"),
    [
        (1, ["is_test", "consumed_inputs"], {}, "Is version 1 of the operator, with is_test and"),
        (6, ["is_test"], {}, "Is version 6 of the operator, with is_test: onnxruntime has none"),
        (6, ["is_test", "spatial"], {}, "Is version 6 of the operator"),
        (6, ["consumed_inputs"], {}, "Has the attribute consumed_inputs, which version 6"),
        (7, ["is_test"], {}, "Has the attribute is_test, which version 7"),
        (7, ["spatial"], {"spatial": False}, "spatial=0 asks for a mean and a variance of each"),
        (9, ["spatial"], {}, "Has the attribute spatial, which version 9"),
        (15, ["is_test", "spatial"], {}, "Has the attribute is_test and spatial, which version 15"),
        (7, ["spatial"], {}, ""),  # spatial=1 is what is done anyway
        (8, ["spatial"], {}, ""),
        (6, [], {}, ""),
        (6, ["spatial"], {}, ""),
        (17, [], {}, ""),
    ],
)
def test_old_attributes(
    make: Any, version: int, outdated: list[str], attributes: Any, message: str
) -> None:
    said = old(make, version, *outdated, **attributes)
    assert said.startswith(message) if message else said == ""


@pytest.mark.parametrize(
    ("shape", "said"),
    [((2,), "these have one for each of 2 channels"), ((2, 2, 2), "no version of the operator")],
)
def test_statistics_of_channels_do_not_fit_spatial_0(make: Any, shape: Any, said: str) -> None:
    assert said in old(make, 8, "spatial", shape=shape, spatial=False)


def outputs(names: tuple[str, ...], **attributes: object) -> Node:
    return Node(NodeKind.BATCH_NORM, "BatchNormalization", "bn", ("x",), names, {}, attributes)


@pytest.mark.parametrize(
    ("names", "attributes", "message"),
    [
        ("y m v", {"version": 15, "training": False}, "3 outputs with training_mode=0"),
        ("y m", {"version": 14, "training": False}, "2 outputs with training_mode=0"),
        (
            "y m v sm sv",
            {"version": 9, "training": True},
            "5 outputs: in version 9 of the operator",
        ),
        ("y m", {"version": 7, "training": True}, "2 outputs: in version 7"),
        ("y m v sm sv", {"version": 6, "training": False}, "5 outputs with is_test=1"),
        ("y m v sm sv", {"version": 6, "training": True}, ""),
        ("y m v", {"version": 15, "training": True}, ""),
        ("y", {"version": 15, "training": False}, ""),
        ("y", {"version": 9, "training": False}, ""),
        ("y m v", {"training": False}, ""),  # of PyTorch, whose functions return three
    ],
)
def test_extra_outputs(make: Any, names: str, attributes: Any, message: str) -> None:
    layer = make.layer(calls=(outputs(tuple(names.split()), **attributes),))
    seen = make.seen(extra_outputs(layer))
    assert [said.startswith(message) for _, said in seen] == ([True] if message else [])


def test_an_output_without_a_name_is_none(make: Any) -> None:
    layer = make.layer(calls=(outputs(("y", "", "", "", ""), version=9, training=False),))
    assert not make.seen(extra_outputs(layer))


@pytest.mark.parametrize("check", [extra_outputs, old_onnx_attributes])
def test_a_shared_layer_is_told_once(make: Any, check: Any) -> None:
    call = outputs(("y", "m", "v"), version=15, training=False, outdated=("spatial",))
    assert len(make.seen(check(make.layer(calls=(call, call))))) == 1
