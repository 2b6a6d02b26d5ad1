"""Arrays of integers that ONNX graphs compute: every operator as onnxruntime and numpy have it."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.readers.onnx import read
from bncheck.readers.source import BytesSource

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
numpy = pytest.importorskip("numpy")

INPUT = (2, 12, 5, 7)
CONSTANTS = """
<int64 i = {-3}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] minus = {-1},
 int64[2] pair = {3, 1}, int64[4] four = {10, 20, 30, 40}, int64[4] times = {1, -2, 3, 1},
 int64 n0 = {1}, int64 n1 = {7}, int64 n2 = {2}, int64[1] lowest = {-9223372036854775807},
 int64[2] rows = {-1, 2}>
"""
BODIES = [
    "s = Shape(x)",
    "s = Shape<start = 1, end = -1>(x)",
    "n = Shape(x) s = Gather(n, pair)",
    "n = Shape(x) e = Gather(n, i) s = Unsqueeze(e, zero)",
    "n = Shape(x) e = Gather(n, one) f = Squeeze(e) s = Reshape(f, minus)",
    "n = Shape(x) s = Slice(n, one, two)",
    "n = Shape(x) s = Slice(n, minus, lowest, zero, minus)",
    "n = Shape(x) s = Concat<axis = 0>(n, four, one)",
    "n = Shape(x) s = Add(n, four)",
    "n = Shape(x) s = Sub(one, n)",
    "n = Shape(x) s = Mul(n, times)",
    "n = Shape(x) m = Mul(n, times) s = Div(m, two)",
    "n = Shape(x) c = Cast<to = 6>(n) s = Cast<to = 7>(c)",
    "n = Shape(x) r = Reshape(n, rows) t = Transpose(r) s = Reshape(t, minus)",
    "n = Shape(x) r = Reshape(n, rows) t = Slice(r, minus, lowest, zero, minus)"
    "s = Reshape(t, minus)",
    "n = Shape(x) k = Size(n) r = Range(n0, k, n2) s = Identity(r)",
    "s = Range(n1, n0, i)",
    "n = Shape(x) e = Gather(n, one) s = Expand(e, pair)",
    "z = ConstantOfShape<value = int64[1] {4}>(two) s = Concat<axis = 0>(z, one)",
]


def model(body: str) -> Any:
    text = (
        f'<ir_version: 10, opset_import: ["" : 20]> g (float{[*INPUT]} x) => (y, s)'
        f"{CONSTANTS} {{ {body} y = Reshape(x, s) }}"
    )
    return onnx.parser.parse_model(text)


def found(body: str) -> Any:
    (made,) = read(BytesSource(model(body).SerializeToString()))
    return made.graph.nodes[-1].attributes.get("shape", "unknown")


def computed(body: str) -> tuple[int, ...]:
    """What the reference makes of it, without the Reshape, which need not fit."""
    proto = model(body)
    del proto.graph.node[-1], proto.graph.output[0]
    session = reference.ReferenceEvaluator(proto)
    (made,) = session.run(["s"], {"x": numpy.zeros(INPUT, "f4")})
    return tuple(made.flatten().tolist())


@pytest.mark.parametrize("body", BODIES)
def test_arrays_are_what_the_reference_computes(body: str) -> None:
    if "Expand(e, pair)" in body:
        assert found(body) == "unknown"  # two axes
    else:
        assert found(body) == computed(body)


def test_what_depends_on_data_is_open() -> None:
    open_size = model("n = Shape(x) s = Concat<axis = 0>(n, pair)")
    open_size.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_value")
    open_size.graph.input[0].type.tensor_type.shape.dim[2].ClearField("dim_value")
    (made,) = read(BytesSource(open_size.SerializeToString()))
    assert made.graph.nodes[-1].attributes["shape"] == (2, None, None, 7, 3, 1)


@pytest.mark.parametrize(
    "body",
    [
        "n = Shape(x) s = Gather(n, four)",  # out of range
        "n = Shape(x) f = Cast<to = 1>(n) g = Exp(f) s = Cast<to = 7>(g)",
        "s = Div(four, zero)",
        "l = Mul(lowest, lowest) s = Add(l, one)",
        "r = Squeeze(lowest) s = Range(r, n1, n0)",
        "n = Shape(x) s = Gather(n)",
        "n = Shape(x) s = Expand(n)",
        "n = Shape(x) s = Slice(n)",
        "n = Shape(x) s = Range(n)",
        "n = Shape(x) s = Reshape(n)",
        "n = Shape(x) s = Add(n)",
    ],
)
def test_what_has_no_value_is_unknown(body: str) -> None:
    shape = found(body)
    assert shape == "unknown" or set(shape) <= {None, -1}
