"""Small ONNX models in which folding goes wrong elsewhere: folded right here, or kept, and why.

What a folded model computes is compared by onnxruntime without its own optimisations.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx_models import IMAGE, model  # noqa: E402

import bncheck  # noqa: E402
from bncheck import readers  # noqa: E402
from bncheck.folding.plan import plan_of  # noqa: E402

W = (4, 3, 3, 3)
FLAT = "float[5,6] x"
Build = Callable[[], Any]

FOLDED: dict[str, Build] = {
    "conv": lambda: model("c = Conv(x, w)\ny = BN4(c)", {"w": W}),
    "conv with bias": lambda: model("c = Conv(x, w, b)\ny = BN4(c)", {"w": W, "b": (4,)}),
    "a scalar of the caller's": lambda: model(
        "s = Mul(x, k)\nc = Conv(s, w)\ny = BN4(c)", {"w": W}, inputs=f"{IMAGE}, float k"
    ),
    "conv with an empty bias": lambda: model('c = Conv(x, w, "")\ny = BN4(c)', {"w": W}),
    "conv 1d": lambda: model(
        "c = Conv(x, w)\ny = BN4(c)", {"w": (4, 3, 3)}, inputs="float[2,3,8] x", rank=3
    ),
    "conv 3d": lambda: model(
        "c = Conv(x, w)\ny = BN4(c)", {"w": (4, 3, 2, 2, 2)}, inputs="float[2,3,4,4,4] x", rank=5
    ),
    "same padding": lambda: model('c = Conv<auto_pad = "SAME_UPPER">(x, w)\ny = BN4(c)', {"w": W}),
    "same padding before": lambda: model(
        'c = Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>(x, w)\ny = BN4(c)', {"w": W}
    ),
    "dilated, strided, uneven padding": lambda: model(
        "c = Conv<dilations = [2, 1], strides = [1, 2], pads = [0, 1, 2, 3]>(x, w)\ny = BN4(c)",
        {"w": W},
    ),
    "grouped": lambda: model(
        "c = Conv<group = 2>(x, w)\ny = BN4(c)", {"w": (4, 2, 3, 3)}, inputs="float[2,4,8,8] x"
    ),
    "depthwise": lambda: model(
        "c = Conv<group = 4>(x, w)\ny = BN8(c)", {"w": (8, 1, 3, 3)}, inputs="float[2,4,8,8] x"
    ),
    "transposed": lambda: model("c = ConvTranspose(x, w)\ny = BN4(c)", {"w": (3, 4, 3, 3)}),
    "transposed, as many in as out": lambda: model(
        "c = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]>"
        "(x, w, b)\ny = BN3(c)",
        {"w": (3, 3, 3, 3), "b": (3,)},
    ),
    "transposed and grouped": lambda: model(
        "c = ConvTranspose<group = 2>(x, w)\ny = BN6(c)",
        {"w": (4, 3, 3, 3)},
        inputs="float[2,4,5,5] x",
    ),
    "transposed, grouped, as many in as out": lambda: model(
        "c = ConvTranspose<group = 2>(x, w)\ny = BN4(c)",
        {"w": (4, 2, 3, 3)},
        inputs="float[2,4,5,5] x",
    ),
    "transposed depthwise": lambda: model(
        "c = ConvTranspose<group = 4>(x, w)\ny = BN4(c)",
        {"w": (4, 1, 2, 2)},
        inputs="float[2,4,5,5] x",
    ),
    "gemm": lambda: model("c = Gemm(x, w)\ny = BN4(c)", {"w": (6, 4)}, inputs=FLAT, rank=2),
    "gemm with factors": lambda: model(
        "c = Gemm<alpha = 0.5, beta = 2.0>(x, w, b)\ny = BN4(c)",
        {"w": (6, 4), "b": (4,)},
        inputs=FLAT,
        rank=2,
    ),
    "gemm transposed": lambda: model(
        "c = Gemm<transB = 1, beta = 0.25>(x, w, b)\ny = BN4(c)",
        {"w": (4, 6), "b": (4,)},
        inputs=FLAT,
        rank=2,
    ),
    "gemm with one bias for all": lambda: model(
        "c = Gemm(x, w, b)\ny = BN4(c)", {"w": (6, 4), "b": (1,)}, inputs=FLAT, rank=2
    ),
    "gemm with a row of biases": lambda: model(
        "c = Gemm(x, w, b)\ny = BN4(c)", {"w": (6, 4), "b": (1, 4)}, inputs=FLAT, rank=2
    ),
    "gemm with a matrix of biases": lambda: model(
        "c = Gemm(x, w, b)\ny = BN4(c)", {"w": (6, 4), "b": (5, 4)}, inputs=FLAT, rank=2
    ),
    "product and sum": lambda: model(
        "m = MatMul(x, w)\nc = Add(m, b)\ny = BN4(c)", {"w": (6, 4), "b": (4,)}, inputs=FLAT, rank=2
    ),
    "sum the other way round": lambda: model(
        "m = MatMul(x, w)\nc = Add(b, m)\ny = BN4(c)", {"w": (6, 4), "b": (4,)}, inputs=FLAT, rank=2
    ),
    "product and difference": lambda: model(
        "m = MatMul(x, w)\nc = Sub(m, b)\ny = BN4(c)", {"w": (6, 4), "b": (4,)}, inputs=FLAT, rank=2
    ),
    "product alone becomes a sum": lambda: model(
        "c = MatMul(x, w)\ny = BN4(c)", {"w": (6, 4)}, inputs=FLAT, rank=2
    ),
    "before a conv without padding": lambda: model("c = BN3(x)\ny = Conv(c, w)", {"w": W}),
    "before a grouped conv": lambda: model(
        "c = BN4(x)\ny = Conv<group = 2>(c, w, b)",
        {"w": (6, 2, 3, 3), "b": (6,)},
        inputs="float[2,4,8,8] x",
    ),
    "before a gemm": lambda: model(
        "c = BN6(x)\ny = Gemm<alpha = 0.5, beta = 2.0>(c, w, b)",
        {"w": (6, 4), "b": (4,)},
        inputs=FLAT,
        rank=2,
    ),
    "before two convs": lambda: model(
        "c = BN3(x)\np = Conv(c, w)\nq = Conv(c, v)\ny = Add(p, q)", {"w": W, "v": W}
    ),
    "before flatten and gemm": lambda: model(
        "c = BN3(x)\nf = Flatten(c)\ny = Gemm(f, w, b)", {"w": (192, 4), "b": (4,)}, rank=2
    ),
    "after average pooling": lambda: model(
        "c = Conv(x, w)\np = AveragePool<kernel_shape = [2, 2]>(c)\ny = BN4(p)", {"w": W}
    ),
    "after padded average pooling": lambda: model(
        "c = Conv(x, w)\n"
        "p = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(c)\ny = BN4(p)",
        {"w": W},
    ),
    "after global average pooling and flatten": lambda: model(
        "c = Conv(x, w)\np = GlobalAveragePool(c)\nf = Flatten(p)\ny = BN4(f)", {"w": W}, rank=2
    ),
    "after a mean over space": lambda: model(
        "c = Conv(x, w)\np = ReduceMean<axes = [2, 3], keepdims = 0>(c)\ny = BN4(p)",
        {"w": W},
        rank=2,
    ),
    "after max pooling, gains above zero": lambda: model(
        "c = Conv(x, w)\np = MaxPool<kernel_shape = [2, 2]>(c)\ny = BN4(p)", {"w": W}, positive=True
    ),
    "after identity and dropout": lambda: model(
        "c = Conv(x, w)\ni = Identity(c)\nd = Dropout(i)\ny = BN4(d)", {"w": W}
    ),
    "after a concatenation": lambda: model(
        "p = Conv(x, w)\nq = Conv(x, v)\nc = Concat<axis = 1>(p, q)\ny = BN6(c)",
        {"w": W, "v": (2, 3, 3, 3)},
    ),
    "after a concatenation in space": lambda: model(
        "p = Conv(x, w)\nq = Conv(x, v)\nc = Concat<axis = 2>(p, q)\ny = BN4(c)", {"w": W, "v": W}
    ),
    "after a sum of two": lambda: model(
        "p = Conv(x, w)\nq = Conv(x, v)\nc = Add(p, q)\ny = BN4(c)", {"w": W, "v": W}
    ),
    "after a difference of two": lambda: model(
        "p = Conv(x, w)\nq = Conv(x, v)\nc = Sub(p, q)\ny = BN4(c)", {"w": W, "v": W}
    ),
    "after one part of a split": lambda: model(
        "c = Conv(x, w)\np, q = Split<axis = 1>(c, n)\nr = BN3(q)\ny = Concat<axis = 1>(p, r)",
        {"w": (5, 3, 3, 3)},
        values={"n": np.array([2, 3])},
    ),
    "after a slice in space": lambda: model(
        "c = Conv(x, w)\ns = Slice(c, a, e, k)\ny = BN4(s)",
        {"w": W},
        values={"a": np.array([1, 1]), "e": np.array([5, 9]), "k": np.array([2, 3])},
    ),
    "after a transpose": lambda: model(
        "m = MatMul(x, w)\nb = Add(m, a)\nt = Transpose<perm = [0, 2, 1]>(b)\ny = BN4(t)",
        {"w": (6, 4), "a": (4,)},
        inputs="float[2,5,6] x",
        rank=3,
    ),
    "after a reshape of rows": lambda: model(
        "m = MatMul(x, w)\nb = Add(m, a)\nr = Reshape(b, n)\ny = BN4(r)",
        {"w": (6, 4), "a": (4,)},
        inputs="float[2,5,6] x",
        values={"n": np.array([-1, 4])},
        rank=2,
    ),
    "a reader of the shape alone": lambda: model(
        "c = Conv(x, w)\nn = Shape(c)\nb = BN4(c)\ny = Reshape(b, n)", {"w": W}
    ),
    "a channel shuffle": lambda: model(
        "c = Conv(x, w)\nr = Reshape(c, n)\nt = Transpose<perm = [0, 2, 1, 3, 4]>(r)\n"
        "s = Reshape(t, k)\ny = BN6(s)",
        {"w": (6, 3, 3, 3)},
        values={"n": np.array([2, 2, 3, 6, 6]), "k": np.array([2, 6, 6, 6])},
    ),
    "a pixel shuffle": lambda: model(
        'c = Conv(x, w)\ns = DepthToSpace<blocksize = 2, mode = "CRD">(c)\ny = BN2(s)',
        {"w": (8, 3, 3, 3)},
    ),
    "a pixel shuffle, depth first": lambda: model(
        "c = Conv(x, w)\ns = DepthToSpace<blocksize = 2>(c)\ny = BN2(s)", {"w": (8, 3, 3, 3)}
    ),
    "reflecting padding between": lambda: model(
        'c = Conv(x, w)\np = Pad<mode = "reflect">(c, n)\ny = BN4(p)',
        {"w": W},
        values={"n": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
    ),
    "two in a row": lambda: model("c = Conv(x, w)\nb = BN4(c)\ny = BN4(b)", {"w": W}),
    "two in a row, without a conv before": lambda: model(
        "b = BN3(x)\nc = BN3(b)\ny = Conv(c, w)", {"w": W}
    ),
    "taken to pieces": lambda: model(
        "c = Conv(x, w)\nm = Mul(c, s)\ny = Add(m, t)",
        {"w": W, "s": (4, 1, 1), "t": (1, 4, 1, 1)},
    ),
    "taken to smaller pieces": lambda: model(
        "c = Conv(x, w)\nd = Sub(c, t)\nm = Div(d, s)\nn = Mul(m, u)\ny = Add(n, v)",
        {"w": W, "s": (4, 1, 1), "t": (4, 1, 1), "u": (4, 1, 1), "v": (4, 1, 1)},
    ),
    "a sum between": lambda: model(
        "c = Conv(x, w)\na = Add(c, t)\ny = BN4(a)", {"w": W, "t": (4, 1, 1)}
    ),
    "a number taken from": lambda: model(
        "c = Conv(x, w)\na = Sub(k, c)\ny = BN4(a)", {"w": W}, values={"k": np.float32(3)}
    ),
    "shared weights, two statistics": lambda: model(
        "p = Conv(x, w)\nq = Conv(z, w)\na = BN4(p)\nb = BN4(q)\ny = Add(a, b)",
        {"w": W},
        inputs=f"{IMAGE}, float[2,3,8,8] z",
    ),
    "shared weights, one without": lambda: model(
        "p = Conv(x, w, b)\nq = Conv(z, w, b)\na = BN4(p)\ny = Add(a, q)",
        {"w": W, "b": (4,)},
        inputs=f"{IMAGE}, float[2,3,8,8] z",
    ),
    "weights behind identity and transpose": lambda: model(
        "v = Transpose<perm = [1, 0]>(w)\nu = Identity(v)\nm = MatMul(x, u)\nc = Add(m, b)\n"
        "y = BN4(c)",
        {"w": (4, 6), "b": (4,)},
        inputs=FLAT,
        rank=2,
    ),
    "RepVGG's identity branch": lambda: model(
        "p = Conv<pads = [1, 1, 1, 1]>(x, w)\na = BN3(p)\nq = Conv(x, v)\nb = BN3(q)\ni = BN3(x)\n"
        "s = Add(a, b)\nt = Add(s, i)\ny = Relu(t)",
        {"w": (3, 3, 3, 3), "v": (3, 3, 1, 1)},
    ),
    "an identity branch beside a grouped conv": lambda: model(
        "p = Conv<pads = [1, 1, 1, 1], group = 2>(x, w)\ni = BN4(x)\ny = Add(p, i)",
        {"w": (4, 2, 3, 3)},
        inputs="float[2,4,8,8] x",
    ),
    "before instance normalization's own affine": lambda: model(
        "c = InstanceNormalization(x, g, h)\ny = BN3(c)", {"g": (3,), "h": (3,)}
    ),
    "old opset": lambda: model("c = Conv(x, w)\ny = BN4(c)", {"w": W}, opset=9, ir=4),
    "old opset, initializers that are inputs": lambda: model(
        "c = Conv(x, w)\ny = BN4<spatial = 1>(c)",
        {"w": W},
        opset=7,
        ir=3,
        inputs=f"{IMAGE}, float[4,3,3,3] w, float[4] scale0, float[4] shift0, float[4] mean0, "
        "float[4] var0",
    ),
    "newest opset": lambda: model("c = Conv(x, w)\ny = BN4(c)", {"w": W}, opset=22, ir=10),
    "the conv's name is free": lambda: model(
        "c = Conv(x, w)\nb = BN4(c)\nr = Relu(b)\ns = Sigmoid(b)\ny = Mul(r, s)", {"w": W}
    ),
    "a positive scale through relu, no shift": lambda: model(
        "c = Conv(x, w)\nr = Relu(c)\ny = BatchNormalization(r, g, z, z, v)",
        {"w": W},
        values={
            "g": np.array([0.5, 1, 2, 3], np.float32),
            "z": np.zeros(4, np.float32),
            "v": np.array([0.5, 1, 2, 3], np.float32),
        },
    ),
    "in a body of If": lambda: model(
        "y = If(k) <then_branch = t () => (float[2,4,6,6] p) { c = Conv(x, w)\np = BN4(c) }, "
        "else_branch = e () => (float[2,4,6,6] q) { d = Conv(x, v)\nq = BN4(d) }>",
        {"w": W, "v": W},
        inputs=f"{IMAGE}, bool k",
    ),
    "in a function": lambda: model(
        "y = own.block(x, w, scale0, shift0, mean0, var0)",
        {"w": W, "scale0": (4,), "shift0": (4,), "mean0": (4,)},
        values={"var0": np.array([0.5, 1, 2, 3], np.float32)},
        domains=', "own" : 1',
        functions='<domain: "own", opset_import: ["" : 17]>\n'
        "block (a, f, g, h, m, v) => (o) { c = Conv(a, f)\n"
        "o = BatchNormalization(c, g, h, m, v) }",
    ),
}

Kept = tuple[Build, str]
KEPT: dict[str, Kept] = {
    "the conv's output is an output": (
        lambda: model(
            "c = Conv(x, w)\ny = BN4(c)",
            {"w": W},
            outputs="float[a,b,d,e] y, float[a,b,d,e] c",
        ),
        "model-output",
    ),
    "the conv's output is read twice": (
        lambda: model("c = Conv(x, w)\nb = BN4(c)\ny = Add(b, c)", {"w": W}),
        "read-elsewhere",
    ),
    "fed by the input, then a padded conv": (
        lambda: model("c = BN3(x)\ny = Conv<pads = [1, 1, 1, 1]>(c, w)", {"w": W}),
        "model-input",
    ),
    "fed by the input alone": (lambda: model("y = BN3(x)"), "model-input"),
    "relu before": (
        lambda: model("c = Conv(x, w)\nr = Relu(c)\ny = BN4(r)", {"w": W}, positive=True),
        "activation",
    ),
    "max pooling with negative gains": (
        lambda: model(
            "c = Conv(x, w)\np = MaxPool<kernel_shape = [2, 2]>(c)\ny = BN4(p)", {"w": W}
        ),
        "activation",
    ),
    "average pooling that counts its padding": (
        lambda: model(
            "c = Conv(x, w)\np = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], "
            "count_include_pad = 1>(c)\ny = BN4(p)",
            {"w": W},
        ),
        "padding",
    ),
    "zeros padded in between": (
        lambda: model(
            "c = Conv(x, w)\np = Pad(c, n)\ny = BN4(p)",
            {"w": W},
            values={"n": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
        ),
        "padding",
    ),
    "rows of a sequence, as many as features": (
        lambda: model(
            "m = MatMul(x, w)\nc = Add(m, b)\ny = BN4(c)",
            {"w": (6, 4), "b": (4,)},
            inputs="float[2,4,6] x",
            rank=3,
        ),
        "channels",
    ),
    "a constant along the wrong axis": (
        lambda: model("c = Conv(x, w)\nm = Mul(c, s)\ny = BN4(m)", {"w": (4, 3, 3, 3), "s": (6,)}),
        "channels",
    ),
    "flattened space": (
        lambda: model("c = Conv(x, w)\nf = Flatten(c)\ny = BN144(f)", {"w": W}, rank=2),
        "channels",
    ),
    "a weight that is computed": (
        lambda: model(
            "d = Mul(w, k)\nc = Conv(x, d)\ny = BN4(c)",
            {"w": W},
            inputs=f"{IMAGE}, float[1] k",
        ),
        "computed-parameters",
    ),
    "in training mode": (
        lambda: model("c = Conv(x, w)\ny, m, v = BN4<training_mode = 1>(c)", {"w": W}),
        "training",
    ),
    "statistics that are not finite": (
        lambda: model(
            "c = Conv(x, w)\ny = BatchNormalization(c, g, h, m, v)",
            {"w": W, "g": (4,), "h": (4,), "m": (4,)},
            values={"v": np.array([1, np.nan, 1, 1], np.float32)},
        ),
        "not-finite",
    ),
    "a negative variance": (
        lambda: model(
            "c = Conv(x, w)\ny = BatchNormalization(c, g, h, m, v)",
            {"w": W, "g": (4,), "h": (4,), "m": (4,)},
            values={"v": np.array([1, -1, 1, 1], np.float32)},
        ),
        "not-finite",
    ),
    "an initializer that the caller may replace": (
        lambda: model("c = Conv(x, w)\ny = BN4(c)", {"w": W}, inputs=f"{IMAGE}, float[4,3,3,3] w"),
        "overridable",
    ),
    "statistics that the caller may replace": (
        lambda: model("c = Conv(x, w)\ny = BN4(c)", {"w": W}, inputs=f"{IMAGE}, float[4] mean0"),
        "overridable",
    ),
    "quantized between": (
        lambda: model(
            "c = Conv(x, w)\nq = QuantizeLinear(c, s, z)\n"
            "d = DequantizeLinear(q, s, z)\ny = BN4(d)",
            {"w": W},
            values={"s": np.float32(0.1), "z": np.uint8(128)},
        ),
        "quantized",
    ),
    "a function that is called twice": (
        lambda: model(
            "p = own.block(x, w, scale0, shift0, mean0, var0)\n"
            "q = own.block(z, w, scale0, shift0, mean0, var0)\ny = Add(p, q)",
            {"w": W, "scale0": (4,), "shift0": (4,), "mean0": (4,)},
            inputs=f"{IMAGE}, float[2,3,8,8] z",
            values={"var0": np.array([0.5, 1, 2, 3], np.float32)},
            domains=', "own" : 1',
            functions='<domain: "own", opset_import: ["" : 17]>\n'
            "block (a, f, g, h, m, v) => (o) { c = Conv(a, f)\n"
            "o = BatchNormalization(c, g, h, m, v) }",
        ),
        "several-calls",
    ),
}


def outputs_of(path: Path, feed: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {each.name for each in session.get_inputs()}
    return list(session.run(None, {k: v for k, v in feed.items() if k in names}))


def random_feed(made: Any) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    held = {tensor.name for tensor in made.graph.initializer}
    feed: dict[str, Any] = {}
    for each in made.graph.input:
        shape = [d.dim_value for d in each.type.tensor_type.shape.dim]
        if each.name not in held:
            boolean = each.type.tensor_type.elem_type == onnx.TensorProto.BOOL
            feed[each.name] = (
                np.array(True) if boolean else np.asarray(rng.normal(0, 1, shape), np.float32)
            )
    return feed


def folded(made: Any, folder: Path) -> tuple[Any, Path, Path]:
    before, after = folder / "before.onnx", folder / "after.onnx"
    onnx.checker.check_model(made)
    onnx.save(made, before)
    return bncheck.fold(before, after), before, after


def reasons_of_rules(path: Path) -> set[str]:
    """Of the plan that BN701 and BN704 speak from."""
    (model,) = readers.read(path)
    return {each.reason.value for each in plan_of(model.graph).kept.values()}


def assert_the_same(made: Any, before: Path, after: Path) -> None:
    onnx.checker.check_model(str(after))
    feed = random_feed(made)
    for one, other in zip(outputs_of(before, feed), outputs_of(after, feed), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-5 * _size(one))


def _size(array: Any) -> float:
    known = array[np.isfinite(array)]
    return max(float(np.abs(known).max(initial=0)), 1.0)


@pytest.mark.parametrize("name", FOLDED)
def test_folded_right(name: str, tmp_path: Path) -> None:
    made = FOLDED[name]()
    result, before, after = folded(made, tmp_path)
    assert not result.kept
    left = {node.op_type for node in onnx.load(after).graph.node}
    assert "BatchNormalization" not in left
    assert result.verification is not None
    assert result.verification.passed
    assert_the_same(made, before, after)


@pytest.mark.parametrize("name", KEPT)
def test_kept_with_the_reason(name: str, tmp_path: Path) -> None:
    build, reason = KEPT[name]
    made = build()
    result, before, after = folded(made, tmp_path)
    assert {each.reason for each in result.kept} == {reason}
    assert reasons_of_rules(before) == {reason}
    assert all(each.text for each in result.kept)
    assert_the_same(made, before, after)
