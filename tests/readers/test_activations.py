"""The parameters of activations, under the same names whatever the format."""

from __future__ import annotations

from array import array
from math import inf
from typing import Any

import pytest

from bncheck.readers.aten import Constants, Value, bind, node
from bncheck.tensor import Tensor


def of_aten(op: str, *arguments: Any) -> dict[str, object]:
    number = Tensor((), "float32", lambda: array("f", [6.0]))
    call = bind(op, [Value("x"), *arguments], {}, ("y",))
    return dict(node(call, Constants({"six": number})).attributes)


@pytest.mark.parametrize(
    ("op", "arguments", "attributes"),
    [
        ("leaky_relu", [], {"negative_slope": 0.01, "homogeneous": True}),
        ("leaky_relu", [0.2], {"negative_slope": 0.2, "homogeneous": True}),
        ("abs", [], {"homogeneous": True}),
        ("elu", [0.5], {"alpha": 0.5}),
        ("celu", [], {"alpha": 1.0}),
        ("softplus", [2.0, 10], {"beta": 2.0}),
        ("hardtanh", [], {"min": -1.0, "max": 1.0}),
        ("hardtanh", [0, 4], {"min": 0, "max": 4}),
        ("clamp", [None, 6], {"min": -inf, "max": 6}),
        ("clamp_min", [0], {"min": 0, "max": inf}),
        ("clamp", [0, Value("six")], {"min": 0}),  # not known is left out, unlike not given
        ("hardsigmoid", [], {"alpha": 1 / 6, "beta": 0.5}),
        ("silu", [], {}),
    ],
)
def test_aten(op: str, arguments: list[Any], attributes: dict[str, object]) -> None:
    assert of_aten(op, *arguments) == attributes


def of_onnx(op: str, opset: int, bounds: list[float | None], **given: float) -> dict[str, object]:
    onnx = pytest.importorskip("onnx")
    from bncheck.readers.onnx import read
    from bncheck.readers.source import BytesSource

    helper = onnx.helper
    names = ["" if bound is None else f"b{i}" for i, bound in enumerate(bounds)]
    held = [
        helper.make_tensor(name, 1, [], [bound])
        for name, bound in zip(names, bounds, strict=True)
        if bound is not None
    ]
    info = helper.make_tensor_value_info
    made = helper.make_node(op, ["x", *names], ["y"], **given)
    graph = helper.make_graph([made], "g", [info("x", 1, [1])], [info("y", 1, None)], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    (found,) = read(BytesSource(model.SerializeToString()))
    return dict(found.graph.nodes[0].attributes)


@pytest.mark.parametrize(
    ("op", "opset", "bounds", "given", "attributes"),
    [
        ("LeakyRelu", 16, [], {}, {"negative_slope": 0.01, "homogeneous": True}),
        ("LeakyRelu", 16, [], {"alpha": 0.2}, {"negative_slope": 0.2, "homogeneous": True}),
        ("Elu", 6, [], {"alpha": 0.5}, {"alpha": 0.5}),
        ("HardSigmoid", 6, [], {}, {"alpha": 0.2, "beta": 0.5}),
        ("Softplus", 1, [], {}, {"beta": 1.0}),
        ("Clip", 6, [], {"max": 6.0}, {"min": -inf, "max": 6.0}),
        ("Clip", 13, [0.0, 6.0], {}, {"min": 0.0, "max": 6.0}),
        ("Clip", 13, [None, 6.0], {}, {"min": -inf, "max": 6.0}),
        ("Clip", 13, [0.0], {}, {"min": 0.0, "max": inf}),
        ("Sigmoid", 13, [], {}, {}),
    ],
)
def test_onnx(
    op: str, opset: int, bounds: list[float | None], given: Any, attributes: dict[str, object]
) -> None:
    assert of_onnx(op, opset, bounds, **given) == attributes


@pytest.mark.parametrize(
    ("module", "attributes"),
    [
        ("LeakyReLU(0.2)", {"negative_slope": 0.2, "homogeneous": True}),
        ("ELU(0.5)", {"alpha": 0.5}),
        ("Hardtanh(0, 4)", {"min": 0, "max": 4}),
        ("ReLU6()", {}),
        ("Softplus(2)", {"beta": 2}),
    ],
)
def test_modules(module: str, attributes: dict[str, object]) -> None:
    torch = pytest.importorskip("torch")
    import bncheck

    name, _, arguments = module.partition("(")
    values = [float(each) for each in arguments[:-1].split(",") if each]
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(2), getattr(torch.nn, name)(*values))
    (found,) = bncheck.inspect(net.eval())
    assert dict(found.order.nodes[-1].attributes) == attributes
