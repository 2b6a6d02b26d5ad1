"""Constants, and what exporters put between a constant and the node that reads it."""

from __future__ import annotations

import math

import pytest

from bncheck.facts import Unknown, UnknownFact
from bncheck.graph import NodeKind
from bncheck.model import Model
from bncheck.readers.onnx import constants, read
from bncheck.readers.source import BytesSource
from bncheck.tensor import Tensor

onnx = pytest.importorskip("onnx")
numpy = pytest.importorskip("numpy")

NEWEST = onnx.defs.onnx_opset_version()
CONSTANTS = """
<float[3] c = {1, 2, 3}, float[1, 3] row = {4, 5, 6}, float[2, 3] m = {1, 2, 3, 4, 5, 6},
 double[2] d = {0.1, 1e300}, float[3] f = {0.1, 70000, -70000}, float16[1] h = {15872},
 int64[1] big = {9007199254740993}, int32[2] i = {7, -7}, int64[1] zero = {0}, int64[1] one = {1},
 int64[1] rest = {-1}, int64[3] thrice = {1, -1, 1}, int64[2] keep = {0, 0}, int64[1] four = {4}>
"""


def constant_at(body: str, opset: int = NEWEST) -> Tensor | Unknown:
    """The weight that a normalization has after some nodes have made it, called "v"."""
    return model(body, opset).layers[0].facts["weight"]  # type: ignore[return-value]


def model(body: str, opset: int = NEWEST) -> Model:
    text = (
        f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[2, 3] x) => (y) {CONSTANTS}'
        f"{{ {body} y = InstanceNormalization(x, v, c) }}"
    )
    (found,) = read(BytesSource(onnx.parser.parse_model(text).SerializeToString()))
    return found


@pytest.mark.parametrize(
    ("body", "opset", "shape", "dtype", "values"),
    [
        ("v = Identity(c)", NEWEST, (3,), "float32", [1, 2, 3]),
        ("a = Identity(c) b = Identity(a) v = Identity(b)", NEWEST, (3,), "float32", [1, 2, 3]),
        ("v = Constant<value = float[2] {1, 2}>()", NEWEST, (2,), "float32", [1, 2]),
        ("v = Constant<value_float = 2.5>()", NEWEST, (), "float32", [2.5]),
        ("v = Constant<value_floats = [2.5, 1.0]>()", NEWEST, (2,), "float32", [2.5, 1]),
        ("v = Constant<value_int = -3>()", NEWEST, (), "int64", [-3]),
        ("v = Constant<value_ints = [1, 2, 3]>()", NEWEST, (3,), "int64", [1, 2, 3]),
        ("v = Reshape(row, rest)", NEWEST, (3,), "float32", [4, 5, 6]),
        ("v = Reshape(c, thrice)", NEWEST, (1, 3, 1), "float32", [1, 2, 3]),
        ("v = Reshape(row, keep)", NEWEST, (1, 3), "float32", [4, 5, 6]),
        ("v = Reshape<shape = [3]>(row)", 4, (3,), "float32", [4, 5, 6]),
        ("v = Squeeze(row, zero)", 13, (3,), "float32", [4, 5, 6]),
        ("v = Squeeze(row)", 13, (3,), "float32", [4, 5, 6]),
        ("v = Squeeze<axes = [0]>(row)", 11, (3,), "float32", [4, 5, 6]),
        ("v = Squeeze<axes = [-2]>(row)", 11, (3,), "float32", [4, 5, 6]),
        ("v = Unsqueeze(c, zero)", 13, (1, 3), "float32", [1, 2, 3]),
        ("v = Unsqueeze<axes = [1, 0]>(c)", 11, (1, 1, 3), "float32", [1, 2, 3]),
        ("v = Unsqueeze(c, rest)", 13, (3, 1), "float32", [1, 2, 3]),
        ("v = Flatten(m)", NEWEST, (2, 3), "float32", [1, 2, 3, 4, 5, 6]),
        ("v = Flatten<axis = 0>(c)", NEWEST, (1, 3), "float32", [1, 2, 3]),
        ("v = Transpose(c)", NEWEST, (3,), "float32", [1, 2, 3]),
        ("v = Transpose(row)", NEWEST, (3, 1), "float32", [4, 5, 6]),
        ("v = Cast<to = 11>(c)", NEWEST, (3,), "float64", [1, 2, 3]),
        ("v = Cast<to = 1>(i)", NEWEST, (2,), "float32", [7, -7]),
        ("v = Cast<to = 1>(h)", NEWEST, (1,), "float32", [1.5]),
        ("v = Cast<to = 7>(big)", NEWEST, (1,), "int64", [9007199254740993]),
        ('v = Cast<to = "DOUBLE">(c)', 5, (3,), "float64", [1, 2, 3]),
    ],
)
def test_a_constant_is_seen_through_what_only_moves_it(
    body: str, opset: int, shape: tuple[int, ...], dtype: str, values: list[float]
) -> None:
    found = constant_at(body, opset)
    assert isinstance(found, Tensor)
    assert (found.shape, found.dtype, list(found.values)) == (shape, dtype, values)


@pytest.mark.parametrize(
    ("source", "values", "number", "dtype"),
    [
        ("d", [0.1, 1e300], 1, "float32"),
        ("f", [0.1, 70000, -70000], 10, "float16"),
        ("d", [0.1, 1e300], 10, "float16"),
    ],
)
def test_casts_round_as_numpy_does(
    source: str, values: list[float], number: int, dtype: str
) -> None:
    found = constant_at(f"v = Cast<to = {number}>({source})")
    assert isinstance(found, Tensor)
    with numpy.errstate(over="ignore"):
        exact = numpy.array(values, "float64" if source == "d" else "float32")
        expected = exact.astype(dtype).astype("float64")
    assert list(found.values) == list(expected)


def test_a_cast_to_bfloat16_rounds_to_nearest_even() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    found = constant_at("v = Cast<to = 16>(f)")
    assert isinstance(found, Tensor)
    expected = numpy.array([0.1, 70000, -70000], "f").astype(ml_dtypes.bfloat16).astype("f")
    assert list(found.values) == list(expected)


@pytest.mark.parametrize("bits", [0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x7F800000])
def test_bfloat16_ties_and_extremes(bits: int) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    from bncheck.readers.onnx.views import _brain

    value = float(numpy.array([bits], "u4").view("f4")[0])
    assert _brain(value) == float(numpy.float32(value).astype(ml_dtypes.bfloat16))
    assert math.isnan(_brain(math.nan))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("v = Cast<to = 7>(c)", "cast from float32 to int64 in the graph"),
        ("v = Cast<to = 1>(big)", "cast from int64 to float32 in the graph"),
        ("v = Cast<to = 17>(c)", "cast from float32 to float8e4m3fn in the graph"),
        ('v = Constant<value = string[1] {"a"}>()', "bncheck does not decode string"),
    ],
)
def test_a_constant_may_be_known_without_its_values(body: str, why: str) -> None:
    found = constant_at(body)
    assert isinstance(found, Tensor)
    with pytest.raises(UnknownFact, match=why):
        _ = found.values


@pytest.mark.parametrize(
    "body",
    [
        "v = ConstantOfShape(one)",
        "v = Exp(c)",
        "v = Mul(c, c)",
        "a = QuantizeLinear(c, c) v = DequantizeLinear(a, c)",
        "v = Gather(m, zero)",
        "v = Reshape(c, four)",  # no such shape
        "v = Squeeze(c, zero)",  # no axis of size one
        "v = Transpose<perm = [0, 0]>(m)",
        "a = Add(zero, one) v = Reshape(c, a)",
        "v = com.example.Identity(c)",
    ],
)
def test_what_is_computed_is_no_constant_and_no_data_either(body: str) -> None:
    found = model(body)
    (norm,) = found.layers
    why = norm.facts["weight"]
    assert why == Unknown("weight", "it is computed in the graph, not stored")
    assert not found.graph.depends_on_input("v")
    assert norm.calls[0].inputs == ("x", "v")


def test_nodes_that_only_move_constants_are_no_nodes_of_the_graph() -> None:
    found = model("a = Constant<value_float = 1.0>() b = Identity(c) v = Unsqueeze(b, zero)")
    assert [node.kind for node in found.graph.nodes] == [NodeKind.INSTANCE_NORM]
    assert found.graph.producer("v") is None


def test_data_is_not_seen_through() -> None:
    assert isinstance(constant_at("v = Identity(x)"), Unknown)


def test_long_chains_of_views_do_not_recurse() -> None:
    length = 20_000
    chain = " ".join(f"a{i + 1} = Identity(a{i})" for i in range(length))
    found = constant_at(f"a0 = Identity(c) {chain} v = Identity(a{length})")
    assert isinstance(found, Unknown)
    near = constant_at(
        "a0 = Identity(c) "
        + " ".join(f"a{i + 1} = Cast<to = 1>(a{i})" for i in range(constants.MOST_VIEWS - 2))
        + f" v = Identity(a{constants.MOST_VIEWS - 2})"
    )
    assert isinstance(near, Tensor)
    assert list(near.values) == [1, 2, 3]


def test_ranks_do_not_grow_without_end() -> None:
    chain = " ".join(f"a{i + 1} = Unsqueeze<axes = [0, 1, 2]>(a{i})" for i in range(30))
    found = constant_at(f"a0 = Identity(c) {chain} v = Identity(a30)", 11)
    assert isinstance(found, Unknown)


@pytest.mark.parametrize("ir_version", [3, 10])
def test_initializers_that_are_also_inputs_are_constants(ir_version: int) -> None:
    helper = onnx.helper
    info = helper.make_tensor_value_info
    names = ["weight", "bias", "running_mean", "running_var"]
    parameters = [f"bn.{name}" for name in names]
    node = helper.make_node("BatchNormalization", ["x", *parameters], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [info(each, 1, [2]) for each in parameters] + [info("x", 1, [1, 2])],
        [info("y", 1, None)],
        [helper.make_tensor(each, 1, [2], [1.0, 2.0]) for each in parameters],
    )
    opset = helper.make_opsetid("", 9)
    proto = helper.make_model(graph, opset_imports=[opset], ir_version=ir_version)
    (found,) = read(BytesSource(proto.SerializeToString()))
    assert found.graph.inputs == ("x",)
    assert found.layers[0].has_running_stats is True
    assert [list(found.layers[0].facts[name].values) for name in names] == [[1, 2]] * 4  # type: ignore[attr-defined]


def test_a_sparse_initializer_is_a_constant_without_values() -> None:
    helper = onnx.helper
    info = helper.make_tensor_value_info
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", 1, [1], [5.0]), helper.make_tensor("i", 7, [1], [2]), [3]
    )
    node = helper.make_node("InstanceNormalization", ["x", "v", "v"], ["y"])
    graph = helper.make_graph(
        [node], "g", [info("x", 1, [1, 3])], [info("y", 1, None)], sparse_initializer=[sparse]
    )
    (found,) = read(BytesSource(helper.make_model(graph).SerializeToString()))
    weight = found.layers[0].weight
    assert weight is not None
    assert weight.shape == (3,)
    with pytest.raises(UnknownFact, match="sparse"):
        _ = weight.values


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ("v = Reshape(zero, keep)", NEWEST),  # copies an axis that is not there
        ("v = Flatten<axis = 5>(c)", NEWEST),
        ("v = Squeeze(c, four)", 13),
        ("v = Unsqueeze(c, four)", 13),
        ("n = Shape(x) v = Squeeze(row, n)", 13),
    ],
)
def test_reshaping_that_cannot_be_is_left_to_the_graph(body: str, opset: int) -> None:
    assert isinstance(constant_at(body, opset), Unknown)
