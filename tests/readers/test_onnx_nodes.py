"""ONNX operators in the vocabulary: kinds, data, parameters and arguments."""

from __future__ import annotations

import pytest

from bncheck.facts import Unknown
from bncheck.graph import Graph, Node, NodeKind
from bncheck.readers.onnx import read
from bncheck.readers.source import BytesSource
from bncheck.tensor import Tensor

onnx = pytest.importorskip("onnx")

NEWEST = onnx.defs.onnx_opset_version()
CONSTANTS = """
<float[4, 3, 1, 1] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[4] b = {1, 2, 3, 4},
 float[3, 4] m = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] c = {1, 2, 3}, float s = {0.25},
 float[4] twice = {1, 1, 2, 2}, float[4] channels = {1, 2, 1, 1},
 bool yes = {1}, bool no = {0}, int64[2] space = {2, 3}, int64[2] from_end = {-1, -2},
 int64[1] channel = {1}, int64[2] two = {1, 2}, int64[4] shape = {0, 3, -1, 8},
 int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, int64[1] one = {1}, int64[1] three = {3},
 int64[0] none = {}, int64[1] zero = {0}, int64[1] end = {9223372036854775807},
 int64 scalar = {-1}, int64[8] flat = {0, 0, 0, 0, 0, 0, 0, 0}>
"""


def graph(body: str, opset: int = NEWEST) -> Graph:
    opsets = f'"" : {opset}, "com.microsoft" : 1'
    text = (
        f"<ir_version: 10, opset_import: [{opsets}]> g (float[2, 3, 8, 8] x, float[2, 3, 8, 8] z)"
        f" => (y) {CONSTANTS} {{ {body} }}"
    )
    (found,) = read(BytesSource(onnx.parser.parse_model(text).SerializeToString()))
    return found.graph


def last(body: str, opset: int = NEWEST) -> Node:
    return graph(body, opset).nodes[-1]


K = NodeKind
ONE_BY_ONE = {"kernel_size": (1, 1), "stride": (1, 1), "dilation": (1, 1)}


@pytest.mark.parametrize(
    ("call", "kind", "inputs", "roles"),
    [
        ("Conv(x, w, b)", K.CONV, ("x",), {"weight": "w", "bias": "b"}),
        ("Conv(x, w)", K.CONV, ("x",), {"weight": "w"}),
        ("Conv(x, z, b)", K.CONV, ("x", "z"), {"weight": None, "bias": "b"}),
        ("ConvTranspose(x, w)", K.CONV_TRANSPOSE, ("x",), {"weight": "w"}),
        ("Gemm(x, m, b)", K.LINEAR, ("x",), {"weight": "m", "bias": "b"}),
        ("Gemm(x, z, b)", K.MATMUL, ("x", "z"), {"bias": "b"}),
        ("Gemm(m, x)", K.OPAQUE, ("m", "x"), {}),
        ("MatMul(x, m)", K.LINEAR, ("x",), {"weight": "m"}),
        ("MatMul(x, z)", K.MATMUL, ("x", "z"), {}),
        ("MatMul(m, x)", K.OPAQUE, ("m", "x"), {}),
        ("MatMul(x, c)", K.OPAQUE, ("x", "c"), {}),
        ("Add(x, c)", K.ADD, ("x",), {"bias": "c"}),
        ("Add(c, x)", K.ADD, ("x",), {"bias": "c"}),
        ("Add(x, z)", K.ADD, ("x", "z"), {}),
        ("Sub(x, c)", K.ADD, ("x",), {"bias": "c"}),
        ("Sum(x, z, x)", K.ADD, ("x", "z", "x"), {}),
        ("Mul(x, s)", K.MUL, ("x",), {"weight": "s"}),
        ("Div(x, z)", K.MUL, ("x", "z"), {}),
        ("Relu(x)", K.RELU, ("x",), {}),
        ("LeakyRelu(x)", K.ACTIVATION, ("x",), {}),
        ("Clip(x, s)", K.ACTIVATION, ("x",), {}),
        ("PRelu(x, c)", K.ACTIVATION, ("x",), {"weight": "c"}),
        ("PRelu(x, z)", K.OPAQUE, ("x", "z"), {}),
        ("Pow(x, s)", K.ACTIVATION, ("x",), {"weight": "s"}),
        ("com.microsoft.QuickGelu(x)", K.ACTIVATION, ("x",), {}),
        ("Softmax(x)", K.OPAQUE, ("x",), {}),
        ("Identity(x)", K.IDENTITY, ("x",), {}),
        ("CastLike(x, s)", K.IDENTITY, ("x",), {}),
        ("MaxPool<kernel_shape = [2, 2]>(x)", K.MAX_POOL, ("x",), {}),
        ("GlobalMaxPool(x)", K.MAX_POOL, ("x",), {}),
        ("AveragePool<kernel_shape = [2, 2]>(x)", K.AVERAGE_POOL, ("x",), {}),
        ("GlobalAveragePool(x)", K.AVERAGE_POOL, ("x",), {}),
        ("LpPool<kernel_shape = [2, 2]>(x)", K.OPAQUE, ("x",), {}),
        ("ReduceMean(x, space)", K.AVERAGE_POOL, ("x",), {}),
        ("ReduceMean(x, from_end)", K.AVERAGE_POOL, ("x",), {}),
        ("ReduceMean(x, channel)", K.OPAQUE, ("x", "channel"), {}),
        ("ReduceMean(x)", K.OPAQUE, ("x",), {}),
        ("Sum(x)", K.IDENTITY, ("x",), {}),
        ("Sum(c, x)", K.ADD, ("x",), {"bias": "c"}),
        ("Resize(x, , s)", K.RESIZE, ("x",), {}),
        ("Resize(x, , twice)", K.RESIZE, ("x",), {}),
        ("Resize(x, , channels)", K.OPAQUE, ("x", "", "channels"), {}),
        (
            'Resize<coordinate_transformation_mode = "tf_crop_and_resize">(x, m, twice)',
            K.OPAQUE,
            ("x", "m", "twice"),
            {},
        ),
        ("Pad(x, flat)", K.IDENTITY, ("x",), {}),
        ("Slice(x, zero, end)", K.IDENTITY, ("x",), {}),
        ("Transpose<perm = [0, 1, 2, 3]>(x)", K.IDENTITY, ("x",), {}),
        ("Pad(x, pads)", K.PAD, ("x",), {}),
        ("Concat<axis = 1>(x, w, z)", K.CONCAT, ("x", "w", "z"), {}),
        ("Split<num_outputs = 1>(x)", K.SPLIT, ("x",), {}),
        ("Slice(x, one, two)", K.SPLIT, ("x",), {}),
        ("Gather(x, one)", K.SPLIT, ("x",), {}),
        ("Gather(m, x)", K.OPAQUE, ("m", "x"), {}),
        ("Reshape(x, shape)", K.RESHAPE, ("x",), {}),
        ("Flatten(x)", K.RESHAPE, ("x",), {}),
        ("Squeeze(x, one)", K.RESHAPE, ("x",), {}),
        ("Unsqueeze(x, one)", K.RESHAPE, ("x",), {}),
        ("Transpose(x)", K.RESHAPE, ("x",), {}),
        ("DepthToSpace<blocksize = 2>(x)", K.RESHAPE, ("x",), {}),
        ("QuantizeLinear(x, s)", K.QUANTIZE, ("x",), {}),
        ("DequantizeLinear(x, s)", K.QUANTIZE, ("x",), {}),
        ("com.microsoft.QuantizeLinear(x, s)", K.QUANTIZE, ("x",), {}),
        ("Shape(x)", K.SHAPE, ("x",), {}),
        ("Size(x)", K.SHAPE, ("x",), {}),
        ("LayerNormalization(x, c, c)", K.LAYER_NORM, ("x",), {"weight": "c", "bias": "c"}),
        ("com.microsoft.SkipLayerNormalization(x, z, c)", K.OPAQUE, ("x", "z"), {"weight": "c"}),
        ("com.microsoft.Relu(x)", K.OPAQUE, ("x",), {}),
        ("Attention(x, x, z)", K.OPAQUE, ("x", "x", "z"), {}),
    ],
)
def test_operators_have_their_kind(
    call: str, kind: NodeKind, inputs: tuple[str, ...], roles: dict[str, str | None]
) -> None:
    node = last(f"y = {call}")
    assert (node.kind, node.inputs, node.outputs) == (kind, inputs, ("y",))
    assert node.op == call.partition("(")[0].partition("<")[0].rpartition(".")[2]
    assert {role: _stored(value) for role, value in node.parameters.items()} == roles


def _stored(value: Tensor | Unknown) -> object:
    """The name that a constant has as its storage; None for what is computed."""
    return value.storage if isinstance(value, Tensor) else None


@pytest.mark.parametrize(
    ("call", "opset", "attributes"),
    [
        (
            "Conv<group = 3, pads = [1, 2, 1, 2], strides = [2, 1], dilations = [1, 1],"
            " kernel_shape = [3, 3]>(x, w)",
            NEWEST,
            {
                "groups": 3,
                "padding": (1, 2),
                "stride": (2, 1),
                "dilation": (1, 1),
                "kernel_size": (3, 3),
            },
        ),
        (
            "Conv<pads = [0, 0, 1, 1]>(x, w)",
            NEWEST,
            {"groups": 1, **ONE_BY_ONE, "padding": (0, 0, 1, 1)},
        ),
        ("Conv(x, w)", NEWEST, {"groups": 1, **ONE_BY_ONE, "padding": (0, 0)}),
        ("Conv(x, z)", NEWEST, {"groups": 1}),
        (
            'Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w)',
            NEWEST,
            {"groups": 1, **ONE_BY_ONE, "stride": (2, 2), "padding": "same"},
        ),
        (
            'Conv<auto_pad = "SAME_UPPER", kernel_shape = [2, 3]>(x, z)',
            NEWEST,
            {"groups": 1, **ONE_BY_ONE, "kernel_size": (2, 3), "padding": (0, 1, 1, 1)},
        ),
        (
            'Conv<auto_pad = "SAME_LOWER", kernel_shape = [2, 3]>(x, z)',
            NEWEST,
            {"groups": 1, **ONE_BY_ONE, "kernel_size": (2, 3), "padding": (1, 1, 0, 1)},
        ),
        (
            'Conv<auto_pad = "VALID">(x, w)',
            NEWEST,
            {"groups": 1, **ONE_BY_ONE, "padding": (0, 0)},
        ),
        (
            "ConvTranspose(x, w)",
            NEWEST,
            {"groups": 1, **ONE_BY_ONE, "padding": (0, 0), "output_padding": (0, 0)},
        ),
        (
            "ConvTranspose<output_shape = [9, 9]>(x, w)",
            NEWEST,
            {"groups": 1, **ONE_BY_ONE},
        ),
        (
            "Gemm<transB = 1, alpha = 0.5>(x, m)",
            NEWEST,
            {"transA": False, "transB": True, "alpha": 0.5, "beta": 1.0},
        ),
        ("MatMul(x, m)", NEWEST, {"transA": False, "transB": False, "alpha": 1.0}),
        ("MatMul(x, z)", NEWEST, {"transA": False, "transB": False, "alpha": 1.0}),
        ("Add(x, c)", NEWEST, {}),
        ("Add(c, x)", NEWEST, {}),
        ("Add(x, z)", NEWEST, {}),
        ("Sub(x, c)", NEWEST, {"subtract": True}),
        ("Sub(c, x)", NEWEST, {"subtract": True, "reversed": True}),
        ("Sub(x, z)", NEWEST, {"subtract": True}),
        ("Mul(s, x)", NEWEST, {}),
        ("Div(x, s)", NEWEST, {"divide": True}),
        ("Div(s, x)", NEWEST, {"divide": True, "reversed": True}),
        ("Div(x, z)", NEWEST, {"divide": True}),
        ("PRelu(x, c)", NEWEST, {"homogeneous": True}),
        ("Abs(x)", NEWEST, {"homogeneous": True}),
        ("InstanceNormalization(x, c, c)", NEWEST, {"eps": 1e-5, "use_input_stats": True}),
        ("Mul<axis = 1, broadcast = 1>(x, c)", 6, {"axis": 1}),
        (
            "AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>(x)",
            NEWEST,
            {
                "padding": (1, 1),
                "kernel_size": (3, 3),
                "stride": (1, 1),
                "dilation": (1, 1),
                "ceil_mode": False,
                "count_include_pad": True,
            },
        ),
        ("GlobalAveragePool(x)", NEWEST, {"output_size": 1}),
        ("ReduceMean<axes = [2, 3], keepdims = 0>(x)", 13, {"output_size": 1, "keepdim": False}),
        ("ReduceMean(x, space)", 18, {"output_size": 1}),
        ("ReduceMean(x, from_end)", 18, {"output_size": 1}),
        ("ReduceMean<axes = [-1]>(x)", 13, {"keepdim": True, "axes": (3,)}),
        ('Resize<mode = "linear">(x, , s)', NEWEST, {"mode": "linear"}),
        ('Upsample<mode = "nearest", scales = [1.0, 2.0]>(x)', 7, {"mode": "nearest"}),
        (
            'Pad<mode = "edge">(x, pads)',
            NEWEST,
            {"mode": "replicate", "axes": (-2, -1), "padding": (1, 1, 1, 1), "value": 0.0},
        ),
        (
            "Pad<pads = [0, 1], value = 2.0>(x)",
            10,
            {"mode": "constant", "axes": (-1,), "padding": (0, 1), "value": 2.0},
        ),
        (
            "Pad(x, two, s, one)",
            NEWEST,
            {"mode": "constant", "axes": (-3,), "padding": (1, 2), "value": 0.25},
        ),
        ("Concat<axis = 2>(x, z)", NEWEST, {"axis": 2}),
        ("Concat(x, z)", 1, {"axis": 1}),
        ("Concat<axis = -3>(x, z)", NEWEST, {"axis": 1}),
        ("Split<axis = -2>(x)", 11, {"axis": 2, "sizes": (8,)}),
        ("Split<axis = 1, split = [1, 2]>(x)", 11, {"axis": 1, "sizes": (1, 2)}),
        ("Split<axis = 1>(x, two)", NEWEST, {"axis": 1, "sizes": (1, 2)}),
        (
            "Slice(x, one, three)",
            NEWEST,
            {"axes": (0,), "starts": (1,), "ends": (2,), "steps": (1,)},
        ),
        (
            "Slice<starts = [0], ends = [4], axes = [1]>(x)",
            9,
            {"axes": (1,), "starts": (0,), "ends": (3,), "steps": (1,)},
        ),
        (
            "Slice<starts = [-3], ends = [-1], axes = [-1]>(x)",
            9,
            {"axes": (3,), "starts": (5,), "ends": (7,), "steps": (1,)},
        ),
        ("Gather<axis = 1>(x, one)", NEWEST, {"axis": 1, "indices": (1,)}),
        ("Gather<axis = -1>(x, scalar)", NEWEST, {"axis": 3, "index": 7}),
        ("Reshape(x, shape)", NEWEST, {"shape": (0, 3, -1, 8)}),
        ("Reshape<shape = [2, -1]>(x)", 4, {"shape": (2, -1)}),
        ("Flatten(x)", NEWEST, {"start_dim": 1, "end_dim": 3}),
        ("Flatten<axis = 2>(x)", NEWEST, {"shape": (None, -1)}),
        ("Flatten<axis = 0>(x)", NEWEST, {"shape": (1, -1)}),
        ("Squeeze<axes = [0]>(x)", 11, {"squeeze": (0,)}),
        ("Unsqueeze(x, one)", 13, {"unsqueeze": (1,)}),
        ("Unsqueeze<axes = [-1]>(x)", 11, {"unsqueeze": (4,)}),
        ("Transpose<perm = [0, 2, 3, 1]>(x)", NEWEST, {"perm": (0, 2, 3, 1)}),
        (
            'DepthToSpace<blocksize = 2, mode = "CRD">(x)',
            11,
            {"upscale_factor": 2, "mode": "CRD"},
        ),
        ("SpaceToDepth<blocksize = 2>(x)", 13, {"downscale_factor": 2, "mode": "DCR"}),
        ("QuantizeLinear(x, s)", NEWEST, {"axis": 1}),
        ("Cast<to = 10>(x)", NEWEST, {"dtype": "float16"}),
        ('Cast<to = "DOUBLE">(x)', 5, {"dtype": "float64"}),
    ],
)
def test_arguments_have_pytorch_s_names(
    call: str, opset: int, attributes: dict[str, object]
) -> None:
    assert last(f"y = {call}", opset).attributes == attributes


@pytest.mark.parametrize(
    ("call", "opset", "attributes"),
    [
        ("Dropout<ratio = 0.1>(x)", 6, {"p": 0.1, "training": True}),
        ("Dropout<ratio = 0.1, is_test = 1>(x)", 6, {"p": 0.1, "training": False}),
        ("Dropout<ratio = 0.1>(x)", 7, {"p": 0.1, "training": False}),
        ("Dropout(x)", 11, {"p": 0.5, "training": False}),
        ("Dropout(x)", 12, {"p": 0.5, "training": False}),
        ("Dropout(x, s)", 12, {"p": 0.25, "training": False}),
        ("Dropout(x, s, yes)", 13, {"p": 0.25, "training": True}),
        ("Dropout(x, , yes)", NEWEST, {"p": 0.5, "training": True}),
        ("Dropout(x, s, no)", NEWEST, {"p": 0.25, "training": False}),
        ("Dropout(x, s, computed)", NEWEST, {"p": 0.25}),
    ],
)
def test_dropout_tells_whether_it_is_active(
    call: str, opset: int, attributes: dict[str, object]
) -> None:
    node = last(f"computed = Not(yes) y = {call}", opset)
    assert (node.kind, node.attributes) == (NodeKind.DROPOUT, attributes)
    assert node.inputs[0] == "x"


@pytest.mark.parametrize(
    ("to", "kind"),
    [(1, K.IDENTITY), (10, K.IDENTITY), (11, K.IDENTITY), (16, K.IDENTITY), (7, K.ACTIVATION)],
)
def test_only_a_cast_to_floats_leaves_values_as_they_are(to: int, kind: NodeKind) -> None:
    assert last(f"y = Cast<to = {to}>(x)").kind is kind


def test_a_computed_shape_is_an_input_that_does_not_depend_on_the_data() -> None:
    found = graph("n = Shape(x) y = Reshape(z, n)")
    assert found.nodes[-1].inputs == ("z", "n")
    assert not found.depends_on_input("n")
    assert found.consumers("n") == (found.nodes[-1],)


def test_a_computed_weight_has_its_maker_consumed() -> None:
    found = graph("v = Mul(x, x) y = Conv(z, v)")
    assert found.uses("v") == 1
    assert isinstance(found.nodes[-1].parameters["weight"], Unknown)


def test_a_transposed_weight_is_the_one_that_is_stored() -> None:
    found = last("t = Transpose(m) y = MatMul(x, t)")
    assert (found.kind, found.inputs) == (K.LINEAR, ("x",))
    assert _stored(found.parameters["weight"]) == "m"
    assert found.attributes["transB"] is True


def test_sizes_that_are_computed_are_followed() -> None:
    body = (
        "n = Shape(z) last = Gather(n, scalar) row = Unsqueeze(last, zero)"
        "rest = Constant<value_ints = [-1]>() asked = Concat<axis = 0>(row, rest)"
        "y = Reshape(x, asked)"
    )
    assert last(body).attributes == {"shape": (8, -1)}


def test_shapes_follow_where_the_file_does_not_state_them() -> None:
    found = graph(
        "h = Conv<pads = [1, 1, 1, 1]>(x, w) p = MaxPool<kernel_shape = [3, 3]>(h)"
        "y = ReduceMean(p, space)"
    )
    assert [found.shapes[value] for value in "hpy"] == [(2, 4, 10, 10), (2, 4, 8, 8), (2, 4, 1, 1)]


def test_parts_of_a_sequence_are_parts_of_the_data() -> None:
    found = graph(
        "i = Constant<value_int = 0>() j = Constant<value_int = 1>()"
        "q = SplitToSequence<axis = 1>(x, two) left = SequenceAt(q, i) right = SequenceAt(q, j)"
        "y = Concat<axis = 1>(right, left)"
    )
    first, second, _ = found.nodes
    assert (first.kind, first.inputs, first.outputs) == (K.SPLIT, ("x",), ("left",))
    assert first.attributes == {"axes": (1,), "starts": (0,), "ends": (1,), "steps": (1,)}
    assert second.attributes == {"axes": (1,), "starts": (1,), "ends": (3,), "steps": (1,)}
    assert found.uses("x") == 2


@pytest.mark.parametrize("index", ["value_int = -1", "value_int = 9", "value_ints = [0, 1]"])
def test_a_part_that_is_not_there_stays_opaque(index: str) -> None:
    body = f"i = Constant<{index}>() q = SplitToSequence<axis = 1>(x, two) y = SequenceAt(q, i)"
    assert [node.kind for node in graph(body).nodes] == [K.OPAQUE, K.OPAQUE]


def test_shapes_come_from_the_file_and_are_open_where_it_leaves_them_open() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (float[N, 3, 0] x) => (float[4] y)'
        "<float[2, M] h> { h = Relu(x) y = Relu(h) }"
    )
    (found,) = read(BytesSource(onnx.parser.parse_model(text).SerializeToString()))
    assert found.graph.shapes == {"x": (None, 3, None), "h": (2, None), "y": (4,)}
    assert (found.graph.inputs, found.graph.outputs) == (("x",), ("y",))


@pytest.mark.parametrize("domain", ["", "com.microsoft", "ai.onnx.ml"])
def test_operators_without_their_operands_and_attributes_are_read_too(domain: str) -> None:
    operators = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
    nodes = [
        onnx.helper.make_node(op, ["x"], [f"y{i}"], domain=domain) for i, op in enumerate(operators)
    ]
    info = onnx.helper.make_tensor_value_info
    made = onnx.helper.make_graph(nodes, "g", [info("x", 1, [1])], [info("y0", 1, None)])
    (found,) = read(BytesSource(onnx.helper.make_model(made).SerializeToString()))
    assert [node.op for node in found.graph.nodes] == operators
