"""What folding leaves as it was: names, documentation, metadata, and what no BatchNorm touches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx_models import IMAGE, model  # noqa: E402

import bncheck  # noqa: E402

W = (4, 3, 3, 3)
LOOP = """
n = Constant<value_int = 3>()
k = Constant<value = bool {1}>()
y = Loop(n, k, x) <body = b (int64 i, bool go, float[2,3,8,8] h) =>
  (bool again, float[2,3,8,8] out) {
    c = Conv<pads = [1, 1, 1, 1]>(h, w)
    d = BN3(c)
    out = Tanh(d)
    again = Identity(go)
}>
"""
SCAN = """
y = Scan<num_scan_inputs = 1, body = b (float[3,8,8] row) => (float[1,3,8,8] made) {
    axes = Constant<value_ints = [0]>()
    image = Unsqueeze(row, axes)
    c = Conv<pads = [1, 1, 1, 1]>(image, w)
    made = BN3(c)
}>(x)
"""
NESTED = """
y = If(k) <then_branch = t () => (float[2,4,6,6] p) {
  p = If(k) <then_branch = u () => (float[2,4,6,6] q) { c = Conv(x, w)\nq = BN4(c) },
             else_branch = v () => (float[2,4,6,6] r) { d = Conv(x, w)\nr = BN4(d) }>
}, else_branch = e () => (float[2,4,6,6] s) { f = Conv(x, w)\ns = BN4(f) }>
"""
FUNCTION = (
    '<domain: "own", opset_import: ["" : 17]>\n'
    "block (a, f, g, h, m, v) => (o) { c = Conv(a, f)\no = BatchNormalization(c, g, h, m, v) }"
)
BODIES: dict[str, Any] = {
    "loop": lambda: model(LOOP, {"w": (3, 3, 3, 3)}),
    "scan": lambda: model(SCAN, {"w": (3, 3, 3, 3)}, rank=5),
    "if within if": lambda: model(NESTED, {"w": W}, inputs=f"{IMAGE}, bool k"),
    "function": lambda: model(
        "y = own.block(x, w, g, g, g, v)",
        {"w": W},
        values={"v": np.ones(4, np.float32), "g": np.full(4, 0.5, np.float32)},
        domains=', "own" : 1',
        functions=FUNCTION,
    ),
}


def kinds(made: Any) -> list[str]:
    """The operators of all graphs and functions."""
    found: list[str] = []
    waiting = [made.graph.node, *(each.node for each in made.functions)]
    while waiting:
        for node in waiting.pop():
            found.append(node.op_type)
            waiting += [each.g.node for each in node.attribute if each.HasField("g")]
    return found


@pytest.mark.parametrize("name", BODIES)
def test_bodies_and_functions(name: str, tmp_path: Path) -> None:
    made = BODIES[name]()
    onnx.save(made, tmp_path / "in.onnx")
    result = bncheck.fold(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert not result.kept
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)
    assert "BatchNormalization" not in kinds(onnx.load(tmp_path / "out.onnx"))
    x = np.random.default_rng(0).normal(0, 1, (2, 3, 8, 8)).astype(np.float32)
    outputs = []
    for path in ("in.onnx", "out.onnx"):
        session = ort.InferenceSession(str(tmp_path / path), providers=["CPUExecutionProvider"])
        feed = {"x": x, "k": np.array(True)}
        names = [each.name for each in session.get_inputs()]
        outputs.append(session.run(None, {key: feed[key] for key in names})[0])
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)


def documented() -> Any:
    made = model(
        "c = Conv(x, w)\nb = BN4(c)\nr = Relu(b)\nq = Conv(r, u)\ny = BN2(q)",
        {"w": W, "u": (2, 4, 1, 1), "unused": (3,)},
    )
    made.producer_name, made.producer_version, made.domain = "maker", "1.2", "example"
    made.model_version, made.doc_string = 7, "a model"
    made.graph.doc_string, made.graph.name = "its graph", "net"
    made.metadata_props.add(key="classes", value="cat,dog")
    for number, node in enumerate(made.graph.node):
        node.name, node.doc_string = f"node {number}", f"what {number} does"
        if hasattr(node, "metadata_props"):
            node.metadata_props.add(key="from", value=f"layer {number}")
    for name in ("r", "c"):
        kind = onnx.TensorProto.FLOAT
        info = onnx.helper.make_tensor_value_info(name, kind, [2, 4, 6, 6], "between")
        made.graph.value_info.append(info)
    note = made.graph.quantization_annotation.add(tensor_name="r")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    made.graph.initializer[0].doc_string = "weights"
    return made


def test_what_is_said_of_a_model_stays(tmp_path: Path) -> None:
    made = documented()
    onnx.save(made, tmp_path / "in.onnx")
    bncheck.fold(tmp_path / "in.onnx", tmp_path / "out.onnx")
    after = onnx.load(tmp_path / "out.onnx")
    for field in ("ir_version", "producer_name", "producer_version", "domain", "model_version"):
        assert getattr(after, field) == getattr(made, field)
    assert after.doc_string == "a model"
    assert [*after.opset_import] == [*made.opset_import]
    assert [*after.metadata_props] == [*made.metadata_props]
    assert [after.graph.name, after.graph.doc_string] == ["net", "its graph"]
    assert [*after.graph.input] == [*made.graph.input]
    assert [*after.graph.output] == [*made.graph.output]
    assert [*after.graph.quantization_annotation] == [*made.graph.quantization_annotation]


def test_nodes_keep_their_names_and_words(tmp_path: Path) -> None:
    made = documented()
    onnx.save(made, tmp_path / "in.onnx")
    bncheck.fold(tmp_path / "in.onnx", tmp_path / "out.onnx")
    before = {node.name: node for node in made.graph.node}
    after = onnx.load(tmp_path / "out.onnx").graph.node
    assert [node.name for node in after] == ["node 0", "node 2", "node 3"]
    for node in after:
        old = before[node.name]
        assert node.doc_string == old.doc_string
        assert [*node.attribute] == [*old.attribute]
        assert [*getattr(node, "metadata_props", [])] == [*getattr(old, "metadata_props", [])]


def test_shapes_of_values_that_are_gone_go_too(tmp_path: Path) -> None:
    made = documented()
    onnx.save(made, tmp_path / "in.onnx")
    bncheck.fold(tmp_path / "in.onnx", tmp_path / "out.onnx")
    after = onnx.load(tmp_path / "out.onnx").graph
    made_there = {name for node in after.node for name in node.output}
    assert {info.name for info in after.value_info} <= made_there
    assert "r" in {info.name for info in after.value_info}


def test_parameters_that_nothing_reads_any_more_go(tmp_path: Path) -> None:
    made = documented()
    onnx.save(made, tmp_path / "in.onnx")
    bncheck.fold(tmp_path / "in.onnx", tmp_path / "out.onnx")
    after = onnx.load(tmp_path / "out.onnx").graph
    read = {name for node in after.node for name in node.input}
    left = {tensor.name for tensor in after.initializer}
    assert not {name for name in left if name[:4] in ("scal", "shif", "mean", "var0", "var1")}
    assert left - read <= {"unused"}  # nobody read it before: no business of folding


def test_a_model_without_batch_norm_is_copied(tmp_path: Path) -> None:
    made = model("c = Conv(x, w)\ny = Relu(c)", {"w": W})
    onnx.save(made, tmp_path / "in.onnx")
    result = bncheck.fold(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert not result.folded
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "in.onnx").read_bytes()


@pytest.mark.parametrize("opset", range(7, 24))
def test_every_opset_is_kept(opset: int, tmp_path: Path) -> None:
    ir = 3 if opset < 9 else 8 if opset < 21 else 10
    parameters = "".join(f", float[4] {name}0" for name in ("scale", "shift", "mean", "var"))
    inputs = f"{IMAGE}, float[4,3,3,3] w{parameters}" if ir == 3 else IMAGE
    made = model("c = Conv(x, w)\ny = BN4(c)", {"w": W}, opset=opset, ir=ir, inputs=inputs)
    onnx.save(made, tmp_path / "in.onnx")
    result = bncheck.fold(tmp_path / "in.onnx", tmp_path / "out.onnx")
    after = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(after)
    assert len(result.folded) == 1
    assert [each.version for each in after.opset_import] == [opset]
    assert [node.op_type for node in after.graph.node] == ["Conv"]
