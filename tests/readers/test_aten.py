"""Calls of ATen operators as nodes of the graph."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from bncheck.facts import Unknown, UnknownFact
from bncheck.readers.aten import Call, Constants, Value, bind, is_assertion, node, norm_kind
from bncheck.tensor import Tensor

X, Y = Value("x"), Value("y")


def held(*shape: int, first: float = 0.0) -> Tensor:
    """A tensor of the numbers from ``first`` on, one after another."""
    numel = Tensor(shape, "float32", lambda: array("f")).numel
    return Tensor(shape, "float32", lambda: array("f", (first + i for i in range(numel))), "w")


CONSTANTS = {
    "w": held(8, 3, 3, 3),
    "wt": held(3, 8, 2, 2),
    "even": held(8, 3, 2, 4),
    "order": Tensor((3,), "int64", lambda: array("q", (2, 0, 1))),
    "fc": held(4, 8),
    "b": held(8),
    "var": held(8, first=1),
    "scale": held(1, 8, 1, 1),
    "point": held(),
}
NORM = [X, Value("b"), Value("b"), Value("b"), Value("var")]


def made(op: str, *positional: Any, shapes: Any = None, overload: str = "", **named: Any) -> Any:
    call = bind(op, positional, named, ("out",), overload=overload)
    return node(call, Constants(CONSTANTS), shapes or {})


KINDS = [
    # operator and arguments, kind, inputs, roles of the parameters
    ("conv2d", (X, Value("w"), Value("b")), "conv", "x", "weight bias"),
    ("conv2d", (X, Y), "conv", "x y", "weight"),
    ("convolution", (X, Value("w"), None, [1], [0], [1], False, [0], 1), "conv", "x", "weight"),
    (
        "convolution",
        (X, Value("wt"), None, [1], [0], [1], True, [0], 1),
        "conv-transpose",
        "x",
        "weight",
    ),
    ("conv_transpose2d", (X, Value("wt"), Value("b")), "conv-transpose", "x", "weight bias"),
    ("linear", (X, Value("fc"), Value("b")), "linear", "x", "weight bias"),
    ("linear", (X, Y), "matmul", "x y", ""),
    ("addmm", (Value("b"), X, Value("fc")), "linear", "x", "weight bias"),
    ("addmm", (Value("b"), X, Y), "matmul", "x y", "bias"),
    ("mm", (X, Value("fc")), "linear", "x", "weight"),
    ("matmul", (X, Y), "matmul", "x y", ""),
    ("matmul", (Value("fc"), X), "opaque", "fc x", ""),
    ("matmul", (X, Value("b")), "opaque", "x b", ""),
    (
        "batch_norm",
        (*NORM, False, 0.1, 1e-5, True),
        "batch-norm",
        "x",
        "weight bias running_mean running_var",
    ),
    ("batch_norm", (X, None, None, None, None, True, 0.1, 1e-5), "batch-norm", "x", ""),
    ("instance_norm", (X, Value("b"), Value("b")), "instance-norm", "x", "weight bias"),
    ("group_norm", (X, 2, Value("b"), Value("b")), "group-norm", "x", "weight bias"),
    ("native_group_norm", (X, Value("b"), None, Y, 8, 36, 2, 1e-5), "group-norm", "x y", "weight"),
    ("layer_norm", (X, [8], Value("b"), Value("b")), "layer-norm", "x", "weight bias"),
    ("rms_norm", (X, [8], Value("b")), "rms-norm", "x", "weight"),
    ("local_response_norm", (X, 5), "local-response-norm", "x", ""),
    ("add", (X, Y), "add", "x y", ""),
    ("add_", (X, Value("scale")), "add", "x", "bias"),
    ("sub", (Value("scale"), X), "add", "x", "bias"),
    ("rsub", (X, 1), "add", "x", "bias"),
    ("rsub", (X, Y), "add", "y x", ""),
    ("mul", (X, 2.0), "mul", "x", "weight"),
    ("multiply", (Value("scale"), X), "mul", "x", "weight"),
    ("div", (X, Y), "mul", "x y", ""),
    ("relu_", (X,), "relu", "x", ""),
    ("hardtanh", (X, 0, 6), "activation", "x", ""),
    ("prelu", (X, Value("b")), "activation", "x", "weight"),
    ("prelu", (X, Y), "opaque", "x y", ""),
    ("pow", (X, 2), "activation", "x", "weight"),
    ("clamp", (X, 0), "activation", "x", ""),
    ("clamp", (X, Y), "opaque", "x y", ""),
    ("softmax", (X, 1), "opaque", "x", ""),
    ("dropout", (X, 0.5, False), "dropout", "x", ""),
    ("feature_dropout", (X, 0.5, True), "dropout", "x", ""),
    ("max_pool2d", (X, [2, 2]), "max-pool", "x", ""),
    ("adaptive_avg_pool2d", (X, [1, 1]), "average-pool", "x", ""),
    ("mean", (X, [2, 3]), "average-pool", "x", ""),
    ("mean", (X, [1]), "opaque", "x", ""),
    ("mean", (X, [-1, -2]), "opaque", "x", ""),
    ("upsample_nearest2d", (X, [8, 8]), "resize", "x", ""),
    ("constant_pad_nd", (X, [1, 1]), "pad", "x", ""),
    ("cat", ([X, Value("b"), Y], 1), "concat", "x b y", ""),
    ("split", (X, 4, 1), "split", "x", ""),
    ("slice", (X, 1, 0, 4), "split", "x", ""),
    ("slice", (X, 1, 0, 2**63 - 1), "identity", "x", ""),
    ("select", (X, 1, 0), "split", "x", ""),
    ("index_select", (X, 1, Y), "split", "x y", ""),
    ("embedding", (Value("fc"), X), "opaque", "fc x", ""),
    ("view", (X, [Y, -1]), "reshape", "x y", ""),
    ("permute", (X, [0, 2, 1]), "reshape", "x", ""),
    ("pixel_shuffle", (X, 2), "reshape", "x", ""),
    ("contiguous", (X,), "identity", "x", ""),
    ("fake_quantize_per_tensor_affine", (X, 0.1, 0, 0, 255), "quantize", "x", ""),
    ("size", (X, 0), "shape", "x", ""),
    ("no_such_operator", (X, [Y, 3], None), "opaque", "x y", ""),
]


@pytest.mark.parametrize(("op", "given", "kind", "inputs", "roles"), KINDS)
def test_kind_inputs_and_parameters(
    op: str, given: Any, kind: str, inputs: str, roles: str
) -> None:
    found = made(op, *given)
    assert found.kind == kind
    assert found.inputs == tuple(inputs.split())
    assert set(found.parameters) == set(roles.split())
    assert found.outputs == ("out",)


CONV = {"groups": 1, "padding": (0, 0), "kernel_size": (3, 3), "stride": (1, 1), "dilation": (1, 1)}
GEMM = {"transA": False, "transB": True, "alpha": 1.0, "beta": 1.0}
POOL = {"kernel_size": (3, 3), "stride": (3, 3), "padding": (1, 1), "count_include_pad": False}
TURNED = [2, 2], [1, 1], [1, 0], 2
ATTRIBUTES: list[tuple[str, tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    # operator, arguments by position and by name, and some of the attributes
    ("conv2d", (X, Value("w")), {}, CONV),
    ("conv2d", (X, Value("w"), None, [1], "same"), {}, {"padding": (1, 1), "stride": (1, 1)}),
    ("conv2d", (X, Value("even"), None, [1], "same"), {}, {"padding": (0, 1, 1, 2)}),
    ("conv2d", (X, Y, None, [1], "same"), {}, {"padding": "same"}),
    ("_convolution_mode", (X, Value("w"), None, [1], "same"), {}, {"padding": (1, 1)}),
    ("conv2d", (X, Value("w"), None, 1, "valid"), {}, {"padding": (0, 0), "stride": (1, 1)}),
    ("convolution", (X, Y, None, [2], [1], [1], False, [0], 4), {}, {"groups": 4, "stride": (2,)}),
    ("conv_transpose2d", (X, Value("wt"), None, *TURNED), {}, {"groups": 2, "padding": (1, 1)}),
    ("conv_transpose2d", (X, Value("wt"), None, *TURNED), {}, {"output_padding": (1, 0)}),
    ("linear", (X, Value("fc")), {}, GEMM),
    ("addmm", (Value("b"), X, Value("fc")), {"beta": 2}, {**GEMM, "transB": False, "beta": 2}),
    ("batch_norm", (*NORM, True, 0.03, 1e-3, True), {}, {"training": True, "momentum": 0.03}),
    ("cudnn_batch_norm", (*NORM, False, 0.2, 1e-4), {}, {"momentum": 0.2, "eps": 1e-4}),
    ("_native_batch_norm_legit_no_training", (*NORM, 0.1, 1e-5), {}, {"training": False}),
    ("_batch_norm_with_update", (*NORM, 0.1, 1e-5), {}, {"training": True, "eps": 1e-5}),
    ("instance_norm", (X, None, None, None, None, True, 0.1), {}, {"use_input_stats": True}),
    ("group_norm", (X, 4), {}, {"num_groups": 4, "eps": 1e-5}),
    ("layer_norm", (X, [4, 8], None, None, 1e-6), {}, {"axis": -2, "eps": 1e-6}),
    ("rms_norm", (X, [8]), {}, {"axis": -1, "eps": None}),
    ("prelu", (X, Value("b")), {}, {"homogeneous": True}),
    ("leaky_relu", (X, 0.1), {}, {"homogeneous": True}),
    ("dropout", (X, 0.25, True), {}, {"p": 0.25, "training": True}),
    ("native_dropout", (X, 0.5, None), {}, {"training": True}),
    ("max_pool2d", (X, 3, [], 1), {}, POOL),
    ("avg_pool2d", (X, [2, 2], [1, 1]), {}, {"stride": (1, 1), "count_include_pad": True}),
    ("adaptive_avg_pool2d", (X, [1, 1]), {}, {"output_size": 1}),
    ("adaptive_avg_pool2d", (X, [7, 7]), {}, {"output_size": (7, 7)}),
    ("mean", (X, [2, 3], True), {}, {"axes": (2, 3), "keepdim": True}),
    ("upsample_bilinear2d", (X, [8, 8], False), {}, {"mode": "linear"}),
    ("interpolate", (X,), {"mode": "bicubic"}, {"mode": "cubic"}),
    ("pad", (X, [1, 2, 3, 4], "reflect"), {}, {"axes": (-2, -1), "padding": (3, 1, 4, 2)}),
    ("pad", (X, [1, 2, 3, 4], "reflect"), {}, {"mode": "reflect"}),
    ("constant_pad_nd", (X, [1, 1], 2), {}, {"mode": "constant", "value": 2}),
    ("cat", ([X, Y], 1), {}, {"axis": 1}),
    ("split", (X, 4, 1), {}, {"axis": 1, "split_size": 4, "sizes": "absent"}),
    ("split", (X, [3, 5], 1), {}, {"axis": 1, "sizes": (3, 5)}),
    ("split_with_sizes", (X, [3, 5], 1), {}, {"axis": 1, "sizes": (3, 5)}),
    ("chunk", (X, 2, 1), {}, {"axis": 1, "chunks": 2}),
    ("unbind", (X, 1), {}, {"axis": 1, "keepdim": False}),
    ("select", (X, 1, 3), {}, {"axis": 1, "index": 3}),
    ("index_select", (X, 1, Value("order")), {}, {"axis": 1, "indices": (2, 0, 1)}),
    ("index_select", (X, 1, Y), {}, {"axis": 1, "indices": "absent"}),
    ("slice", (X, 1, 2, 6, 2), {}, {"axes": (1,), "starts": (2,), "ends": (6,), "steps": (2,)}),
    ("narrow", (X, 1, 2, 3), {}, {"axes": (1,), "starts": (2,), "ends": (5,)}),
    ("view", (X, [Y, 8]), {}, {"shape": (-1, 8)}),
    ("view", (X, [Y, 2, Y, 8]), {}, {"shape": (None, 2, None, 8)}),
    ("view", (X, [Y, -1]), {}, {"shape": (None, -1)}),
    ("flatten", (X, 1), {}, {"start_dim": 1, "end_dim": -1}),
    ("flatten", (X, 1, 2), {}, {"start_dim": 1, "end_dim": 2}),
    ("unflatten", (X, 1, [2, -1]), {}, {"axis": 1, "sizes": (2, -1)}),
    ("squeeze", (X, 2), {}, {"squeeze": (2,)}),
    ("squeeze", (X,), {}, {"squeeze": None}),
    ("squeeze", (X, Y), {}, {"squeeze": "absent"}),
    ("unsqueeze", (X, 1), {}, {"unsqueeze": (1,)}),
    ("permute", (X, [0, 2, 1]), {}, {"perm": (0, 2, 1)}),
    ("transpose", (X, 1, -1), {}, {"dim0": 1, "dim1": -1}),
    ("t", (X,), {}, {"perm": (1, 0)}),
    ("mT", (X,), {}, {"dim0": -2, "dim1": -1}),
    ("pixel_shuffle", (X, 2), {}, {"upscale_factor": 2, "mode": "CRD"}),
    ("pixel_unshuffle", (X, 2), {}, {"downscale_factor": 2, "mode": "CRD"}),
    ("channel_shuffle", (X, 4), {}, {"groups": 4}),
]


@pytest.mark.parametrize(("op", "given", "named", "expected"), ATTRIBUTES)
def test_attributes(op: str, given: Any, named: Any, expected: dict[str, Any]) -> None:
    found = made(op, *given, **named).attributes
    assert {name: found.get(name, "absent") for name in expected} == expected


C = Value("scale")
ELEMENTWISE = [
    # operator and arguments; inputs, role of the constant, attributes
    ("add", (X, C), {}, "x", "bias", {}),
    ("add", (C, X), {}, "x", "bias", {}),
    ("add", (X, 1), {"alpha": 2}, "x", "bias", {"alpha": 2}),
    ("add", (X, Y), {"alpha": 2}, "x y", "", {"alpha": 2}),
    ("sub", (X, C), {}, "x", "bias", {"subtract": True}),
    ("sub", (1, X), {}, "x", "bias", {"subtract": True, "reversed": True}),
    ("sub", (X, Y), {}, "x y", "", {"subtract": True}),
    ("rsub", (X, 1), {}, "x", "bias", {"subtract": True, "reversed": True}),
    ("rsub", (C, X), {}, "x", "bias", {"subtract": True}),
    ("rsub", (X, Y), {}, "y x", "", {"subtract": True}),
    ("mul", (C, X), {}, "x", "weight", {}),
    ("div", (X, C), {}, "x", "weight", {"divide": True}),
    ("div", (2, X), {}, "x", "weight", {"divide": True, "reversed": True}),
    ("div", (X, Y), {}, "x y", "", {"divide": True}),
]


@pytest.mark.parametrize(("op", "given", "named", "inputs", "role", "attributes"), ELEMENTWISE)
def test_arithmetic_says_which_side_the_constant_is_on(
    op: str, given: Any, named: Any, inputs: str, role: str, attributes: dict[str, object]
) -> None:
    found = made(op, *given, **named)
    assert found.kind == ("add" if op in ("add", "sub", "rsub") else "mul")
    assert found.inputs == tuple(inputs.split())
    assert [*found.parameters] == role.split()
    assert found.attributes == attributes


@pytest.mark.parametrize(
    ("op", "given"), [("add", (C, X)), ("sub", (1, X)), ("rsub", (X, 1)), ("rsub", (X, C))]
)
def test_a_factor_on_the_data_is_no_addition_of_a_constant(op: str, given: Any) -> None:
    assert made(op, *given, alpha=2).kind == "opaque"


def test_a_quotient_that_is_rounded_is_opaque() -> None:
    assert made("div", X, 2, rounding_mode="floor").kind == "opaque"


@pytest.mark.parametrize("op", ["reshape_as", "view_as", "type_as"])
def test_what_only_gives_its_shape_or_type_is_not_read(op: str) -> None:
    assert made(op, X, Y).inputs == ("x",)


def test_another_s_shape_is_asked_for_where_it_is_known() -> None:
    assert made("reshape_as", X, Y, shapes={"y": (None, 8)}).attributes == {"shape": (None, 8)}


def test_zeros_in_a_shape_only_read_that() -> None:
    assert made("zeros_like", X).kind == "shape"


def test_arguments_that_are_computed_are_left_out() -> None:
    found = made("batch_norm", X, None, None, None, None, Y, Y, Y)
    assert found.attributes == {}
    assert found.inputs == ("x", "y", "y", "y")
    assert made("max_pool2d", X, Y).attributes.get("kernel_size") is None


def test_a_rank_that_is_known_tells_a_mean_over_space() -> None:
    assert made("mean", X, [-1, -2], shapes={"x": (None, 8, 4, 4)}).kind == "average-pool"
    assert made("mean", X, [-1, -2], shapes={"x": (None, 8, 4)}).kind == "opaque"


def test_a_parameter_that_is_computed_says_so_and_is_an_input() -> None:
    found = made("batch_norm", X, Value("b"), None, Y, Value("var"), False, 0.1, 1e-5)
    assert found.inputs == ("x", "y")
    assert isinstance(found.parameters["running_mean"], Unknown)
    assert isinstance(found.parameters["running_var"], Tensor)


def test_a_number_is_a_parameter() -> None:
    (tensor,) = made("mul", X, 3).parameters.values()
    assert (tensor.shape, list(tensor.values)) == ((), [3.0])


def test_casts_to_floats_are_no_operation() -> None:
    assert made("to", X, "float16").kind == "identity"
    assert made("to", X, "int64").kind == "activation"


def test_an_overload_with_other_arguments_is_bound_by_its_own_schema() -> None:
    found = made("_native_batch_norm_legit", X, None, None, True, 0.1, 1e-3, overload="no_stats")
    assert found.attributes == {"eps": 1e-3, "momentum": 0.1, "training": True}
    assert not found.parameters


@pytest.mark.parametrize(
    ("op", "kind"), [("batch_norm", "batch"), ("rms_norm", "rms"), ("conv2d", None), ("x", None)]
)
def test_norm_kind(op: str, kind: str | None) -> None:
    assert norm_kind(bind(op, [X], {}, ("out",))) == kind


def test_assertions_are_told_apart() -> None:
    assert is_assertion(Call("aten._assert_tensor_metadata", {}, ()))
    assert not is_assertion(Call("aten.add", {}, ()))


VIEWS = [
    # call of fc (4 x 8) or scale (1 x 8 x 1 x 1); shape and first values of what it makes
    ("t", (Value("fc"),), (8, 4), [0, 8, 16, 24, 1]),
    ("permute", (Value("fc"), [1, 0]), (8, 4), [0, 8, 16, 24, 1]),
    ("transpose", (Value("fc"), -1, 0), (8, 4), [0, 8, 16, 24, 1]),
    ("transpose", (Value("scale"), 0, 1), (8, 1, 1, 1), [0, 1, 2]),
    ("view", (Value("fc"), [2, -1]), (2, 16), [0, 1, 2]),
    ("reshape", (Value("scale"), [8]), (8,), [0, 1, 2]),
    ("flatten", (Value("w"), 1), (8, 27), [0, 1, 2]),
    ("squeeze", (Value("scale"),), (8,), [0, 1, 2]),
    ("squeeze", (Value("scale"), 2), (1, 8, 1), [0, 1, 2]),
    ("unsqueeze", (Value("b"), -1), (8, 1), [0, 1, 2]),
    ("detach", (Value("b"),), (8,), [0, 1, 2]),
    ("to", (Value("b"), "float64"), (8,), [0, 1, 2]),
]


@pytest.mark.parametrize(("op", "given", "shape", "first"), VIEWS)
def test_views_of_constants_are_constants(op: str, given: Any, shape: Any, first: Any) -> None:
    constants = Constants(CONSTANTS)
    assert constants.absorb(bind(op, given, {}, ("out",)))
    found = constants.get("out")
    assert found is not None
    assert (found.shape, list(found.values)[: len(first)]) == (shape, first)
    assert (found.storage, constants.origin("out")) == ("w", given[0].name)


@pytest.mark.parametrize(
    ("op", "given"),
    [
        ("detach", (X,)),
        ("view", (Value("fc"), [5, -1])),
        ("view", (Value("fc"), [Y, Y])),
        ("view", (Value("fc"), [-2, 16])),
        ("permute", (Value("fc"), [0, 0])),
        ("permute", (Value("fc"), [0, 9])),
        ("flatten", (Value("fc"), 5)),
        ("unsqueeze", (Value("fc"), 7)),
        ("expand", (Value("b"), [4, 8])),
        ("relu", (Value("b"),)),
        ("mean", (Value("b"),)),
    ],
)
def test_what_computes_is_no_view(op: str, given: Any) -> None:
    assert not Constants(CONSTANTS).absorb(bind(op, given, {}, ("out",)))


def test_a_narrowing_cast_has_no_known_values() -> None:
    constants = Constants(CONSTANTS)
    assert constants.absorb(bind("to", (Value("b"), "float16"), {}, ("out",)))
    found = constants.get("out")
    assert found is not None
    assert found.dtype == "float16"
    with pytest.raises(UnknownFact, match="cast from float32 to float16"):
        _ = found.values


def test_a_transposed_weight_is_the_one_that_is_stored() -> None:
    constants = Constants(CONSTANTS)
    assert constants.absorb(bind("t", (Value("fc"),), {}, ("fct",)))
    found = node(bind("addmm", (Value("b"), X, Value("fct")), {}, ("out",)), constants)
    assert found.parameters["weight"] is CONSTANTS["fc"]
    assert found.attributes["transB"] is True


def test_views_of_views_end() -> None:
    constants = Constants({"0": held(4, 4)})
    absorbed = [constants.absorb(bind("t", (Value(str(i)),), {}, (str(i + 1),))) for i in range(60)]
    assert absorbed == [True] * 50 + [False] * 10
    last = constants.get("50")
    assert last is not None
    assert list(last.values) == list(range(16))
