"""onnxruntime's fused operators: what they do after or before is an operation of its own."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.facts import Unknown
from bncheck.graph import Node, NodeKind
from bncheck.model import Model
from bncheck.readers.onnx import read
from bncheck.readers.source import BytesSource

onnx = pytest.importorskip("onnx")

CONSTANTS = (
    "<float[2, 2, 1, 1] k = {1, 2, 3, 4}, float[2, 2] m = {1, 2, 3, 4}, float[2] b = {1, 2}>"
)
NCHWC = "com.microsoft.nchwc"


def model(body: str) -> Model:
    domains = ", ".join(f'"{name}" : 1' for name in ("com.microsoft", NCHWC))
    text = (
        f'<ir_version: 10, opset_import: ["" : 18, {domains}]> '
        f"g (float[1, 2, 4, 4] x, float[1, 2, 4, 4] z) => (float[1, 2, 4, 4] y) {CONSTANTS}"
    )
    proto = onnx.parser.parse_model(f"{text} {{ {body} }}")
    (found,) = read(BytesSource(proto.SerializeToString()))
    return found


def chain(body: str) -> list[tuple[Any, ...]]:
    return [(node.kind.name, node.inputs, node.outputs) for node in model(body).graph.nodes]


CONV = ("CONV", ("x",))
RELU, ACTIVATION, ADD = "RELU", "ACTIVATION", "ADD"


@pytest.mark.parametrize("operator", ["com.microsoft.FusedConv", f"{NCHWC}.Conv"])
@pytest.mark.parametrize(
    ("attributes", "inputs", "expected"),
    [
        ("", "x, k, b", [(*CONV, ("y",))]),
        (', activation = "Relu"', "x, k", [(*CONV, ("y#2",)), (RELU, ("y#2",), ("y",))]),
        (', activation = "Tanh"', "x, k, b", [(*CONV, ("y#2",)), (ACTIVATION, ("y#2",), ("y",))]),
        ("", "x, k, b, z", [(*CONV, ("y#2",)), (ADD, ("y#2", "z"), ("y",))]),
        (
            ', activation = "Relu"',
            "x, k, b, z",
            [(*CONV, ("y#2",)), (ADD, ("y#2", "z"), ("y#3",)), (RELU, ("y#3",), ("y",))],
        ),
        (', activation = "Elsewhere"', "x, k", [("OPAQUE", ("x", "k"), ("y",))]),
    ],
)
def test_convolutions(operator: str, attributes: str, inputs: str, expected: list[Any]) -> None:
    assert chain(f"y = {operator}<group = 1{attributes}>({inputs})") == expected


def only(body: str) -> Node:
    (node,) = model(body).graph.nodes
    return node


def test_a_convolution_keeps_its_name_and_parameters() -> None:
    text = 'y = com.microsoft.FusedConv<strides = [2, 2], group = 1, activation = "Relu">(x, k, b)'
    conv, relu = model(text).graph.nodes
    assert (conv.op, relu.op) == ("FusedConv", "Relu")
    assert conv.attributes["stride"] == (2, 2)
    assert set(conv.parameters) == {"weight", "bias"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('FusedConv<activation = "LeakyRelu", activation_params = [0.2]>(x, k)', "LeakyRelu"),
        ('FusedGemm<activation = "LeakyRelu", activation_alpha = 0.2>(x, m)', "LeakyRelu"),
        ('FusedConv<activation = "Clip", activation_params = [0.0, 6.0]>(x, k)', "Clip"),
        ('FusedConv<activation = "LeakyRelu">(x, k)', None),
        ('FusedConv<activation = "Clip", activation_params = [0.0]>(x, k)', None),
        ('FusedConv<activation = "Relu", activation_params = [0.0]>(x, k)', None),
    ],
)
def test_an_activation_has_its_parameters(body: str, expected: str | None) -> None:
    """Those of onnx.proto, in the order in which the kernel takes them; else nothing is sure."""
    *before, last = model(f"y = com.microsoft.{body}").graph.nodes
    if expected is None:
        assert (last.kind, before) == (NodeKind.OPAQUE, [])
    else:
        plain = {"LeakyRelu": "LeakyRelu<alpha = 0.2>(x)", "Clip": "Clip(x, zero, six)"}[expected]
        text = (
            '<ir_version: 10, opset_import: ["" : 18]> g (float[1, 2, 4, 4] x) => (y) '
            f"<float zero = {{0}}, float six = {{6}}> {{ y = {plain} }}"
        )
        (found,) = read(BytesSource(onnx.parser.parse_model(text).SerializeToString()))
        assert last.op == expected
        assert last.attributes == found.graph.nodes[0].attributes


def test_weights_in_blocks_are_not_shown() -> None:
    conv = only(f"y = {NCHWC}.Conv(x, k, b)")
    assert isinstance(conv.parameters["weight"], Unknown)
    assert not isinstance(conv.parameters["bias"], Unknown)


def test_the_value_between_has_the_shape_of_the_result() -> None:
    found = model('y = com.microsoft.FusedConv<activation = "Relu">(x, k)')
    assert found.graph.shapes["y#2"] == (1, 2, 4, 4)


def test_the_value_between_has_a_name_of_its_own() -> None:
    """Also where the file uses the name that comes to mind."""
    text = 'c = com.microsoft.FusedConv<activation = "Relu">(x, k) c_2 = Exp(c) y = Tanh(c_2)'
    data = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18, "com.microsoft" : 1]> '
        f"g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y) {CONSTANTS} {{ {text} }}"
    ).SerializeToString()
    (found,) = read(BytesSource(data.replace(b"c_2", b"c#2")))
    assert [node.outputs for node in found.graph.nodes] == [("c#3",), ("c",), ("c#2",), ("y",)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('y = com.microsoft.FusedGemm<activation = "Relu">(x, m, b)', ["LINEAR", "RELU"]),
        ("y = com.microsoft.FusedMatMul<transB = 1>(x, m)", ["LINEAR"]),
        ("y = com.microsoft.TransposeMatMul(x, z)", ["MATMUL"]),
        ("y = com.microsoft.FusedMatMul<transBatchA = 1>(x, m)", ["OPAQUE"]),
        ("y = com.microsoft.BiasGelu(x, b)", ["ADD", "ACTIVATION"]),
        ("y = com.microsoft.FastGelu(x)", ["ACTIVATION"]),
        ("y = com.microsoft.FastGelu(x, b)", ["ADD", "ACTIVATION"]),
        (f"y = {NCHWC}.ReorderInput(x)", ["IDENTITY"]),
        (f"y = {NCHWC}.ReorderOutput<channels_last = 1>(x)", ["OPAQUE"]),
        (f"y = {NCHWC}.MaxPool<kernel_shape = [2, 2]>(x)", ["MAX_POOL"]),
        (f"y = {NCHWC}.GlobalAveragePool(x)", ["AVERAGE_POOL"]),
        ("y = com.microsoft.NhwcFusedConv(x, k, b)", ["OPAQUE"]),
        ("y = com.microsoft.Unheard(x, k, b)", ["OPAQUE"]),
    ],
)
def test_others(body: str, expected: list[str]) -> None:
    assert [node.kind for node in model(body).graph.nodes] == [NodeKind[name] for name in expected]


@pytest.mark.parametrize("operator", ["FusedConv", "FusedGemm", "BiasGelu", "FastGelu"])
@pytest.mark.parametrize("outputs", [[], [""]])
def test_operators_that_make_nothing_stay_one(operator: str, outputs: list[str]) -> None:
    make = onnx.helper
    node = make.make_node(operator, ["x", "x"], outputs, domain="com.microsoft", activation="Relu")
    x = make.make_tensor_value_info("x", 1, [1])
    proto = make.make_model(make.make_graph([node], "g", [x], [x]))
    (found,) = read(BytesSource(proto.SerializeToString()))
    assert [node.op for node in found.graph.nodes] == [operator]


def test_an_added_constant_is_a_bias_before_the_activation() -> None:
    add, gelu = model("y = com.microsoft.BiasGelu(x, b)").graph.nodes
    assert set(add.parameters) == {"bias"}
    assert (gelu.op, gelu.inputs) == ("BiasGelu", add.outputs)


def test_names_that_onnxruntime_gives_say_that_it_folded() -> None:
    text = "ConvBnFusion_BN_B_bn"
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> g (float[1, 2, 4, 4] x) => (y) '
        f"<float[2, 2, 1, 1] k = {{1, 2, 3, 4}}, float[2] {text} = {{1, 2}}> "
        f"{{ y = Conv(x, k, {text}) }}"
    )
    (found,) = read(BytesSource(proto.SerializeToString()))
    assert found.statistics_gone is not None
    assert "onnxruntime folded it (1 site)" in found.statistics_gone.reason
