"""What onnxruntime itself writes, against the ONNX models that it was given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bncheck.cli import main
from bncheck.facts import Fact
from bncheck.graph import NodeKind
from bncheck.model import Model, NormLayer
from bncheck.readers import read
from bncheck.tensor import Tensor

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
LEVELS = onnxruntime.GraphOptimizationLevel

HEAD = '<ir_version: 10, opset_import: ["" : 18]> g '
NORM = (
    "float[2] bn_weight = {1, 2}, float[2] bn_bias = {3, 4}, "
    "float[2] bn_running_mean = {5, 6}, float[2] bn_running_var = {7, 8}"
)
OPERANDS = "bn_weight, bn_bias, bn_running_mean, bn_running_var"
KERNEL = "float[2, 2, 1, 1] k = {1, 2, 3, 4}, float[2] b = {0.5, -0.5}"
X, Y = "(float[1, 2, 4, 4] x)", "(float[1, 2, 4, 4] y)"
BLOCK = "float[16, 16, 1, 1] k, float[16] b"


def convert(model: Any, path: Path, level: Any = LEVELS.ORT_DISABLE_ALL) -> Path:
    """Write a model in ORT format, optimized so far."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    options.graph_optimization_level = level
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return path


def both(text: str, folder: Path, level: Any = LEVELS.ORT_DISABLE_ALL) -> tuple[Model, Model]:
    """A model as it is read from ONNX and from ORT."""
    proto = onnx.parser.parse_model(HEAD + text)
    onnx.save(proto, folder / "model.onnx")
    convert(proto, folder / "model.ort", level)
    return read(folder / "model.onnx")[0], read(folder / "model.ort")[0]


def told(layer: NormLayer) -> dict[str, Any]:
    """All that is known of a layer."""
    facts = [name for name, fact in vars(NormLayer).items() if isinstance(fact, Fact)]
    held = {name: layer.facts.get(name) for name in facts if name != "calls"}
    for name, value in held.items():
        if isinstance(value, Tensor):
            held[name] = (value.shape, value.dtype, [*value.values])
    calls = [(each.kind, each.op, each.name) for each in layer.calls]
    return {**held, "name": layer.name, "kind": layer.kind, "calls": calls}


def outline(model: Model) -> list[tuple[Any, ...]]:
    return [(n.kind, n.op, n.name, n.inputs, n.outputs) for n in model.graph.nodes]


@pytest.mark.parametrize(
    "text",
    [
        f"{X} => {Y} <{NORM}> {{ y = BatchNormalization<epsilon = 0.001>(x, {OPERANDS}) }}",
        f"{X} => {Y} <{NORM}> {{ y, m, v = BatchNormalization<training_mode = 1>(x, {OPERANDS}) }}",
        f"{X} => {Y} <float[2] s = {{1, 2}}, float[2] b = {{3, 4}}>"
        "{ y = InstanceNormalization(x, s, b) }",
        f"{X} => {Y} <float[4] s = {{1, 2, 3, 4}}>"
        "{ y = LayerNormalization<axis = -1, epsilon = 0.01>(x, s) }",
        f"{X} => {Y} {{ y = LRN<size = 3>(x) }}",
        f"{X} => {Y} <{NORM}, {KERNEL}> {{ c = Conv(x, k, b) r = Relu(c) "
        f"n = BatchNormalization(r, {OPERANDS}) d = Dropout(n) y = Add(d, x) }}",
        f"{X} => {Y} <float[2] s = {{1, 2}}> "
        "{ z = Constant<value = float[2] {3, 4}>() y = InstanceNormalization(x, s, z) }",
        f"(bool c, float[1, 2, 4, 4] x) => {Y} <float[2] s = {{1, 2}}> {{ h = Relu(x) "
        "y = If(c) <then_branch = t () => (float[1, 2, 4, 4] a) "
        "<float[2] w = {3, 4}> { a = InstanceNormalization(h, s, w) }, "
        "else_branch = e () => (float[1, 2, 4, 4] b) { b = Tanh(h) }> }",
        "(int64 n, bool c, float[1, 2, 4] x) => (float[1, 2, 4] y) <float[2] s = {1, 2}> "
        "{ y = Loop(n, c, x) <body = b (int64 i, bool go, float[1, 2, 4] v) "
        "=> (bool on, float[1, 2, 4] w) { on = Identity(go) "
        "w = InstanceNormalization(v, s, s) }> }",
        "(float[3, 2, 4] x) => (float[3, 2, 4] y) <float[4] s = {1, 2, 3, 4}> "
        "{ y = Scan <num_scan_inputs = 1, body = b (float[2, 4] v) => (float[2, 4] w) "
        "{ w = LayerNormalization(v, s) }>(x) }",
        "(float16[1, 4] x) => (float16[1, 4] y) <float16[4] s = {1, 2, 3, 4}> "
        "{ y = LayerNormalization(x, s) }",
    ],
    ids=lambda text: text.rpartition("Normalization")[0].rpartition(" ")[2] or "LRN",
)
def test_layers_are_those_of_the_onnx_model(text: str, tmp_path: Path) -> None:
    of_onnx, of_ort = both(text, tmp_path)
    assert of_ort.layers
    assert [*map(told, of_ort.layers)] == [*map(told, of_onnx.layers)]
    assert (of_ort.graph.inputs, of_ort.graph.outputs) == (
        of_onnx.graph.inputs,
        of_onnx.graph.outputs,
    )
    assert of_ort.holds == of_onnx.holds


def test_the_graph_is_that_of_the_onnx_model(tmp_path: Path) -> None:
    text = (
        f"{X} => {Y} <{NORM}, {KERNEL}> {{ c = Conv(x, k, b) r = Relu(c) "
        f"n = BatchNormalization(r, {OPERANDS}) g = GlobalAveragePool(n) y = Mul(g, x) }}"
    )
    of_onnx, of_ort = both(text, tmp_path)
    assert outline(of_ort) == outline(of_onnx)
    assert of_onnx.graph.shapes.items() <= of_ort.graph.shapes.items()


def test_a_local_function_is_written_out_by_onnxruntime(tmp_path: Path) -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 18, "local" : 1]> g '
        f"{X} => {Y} <{NORM}> {{ y = local.norm(x, {OPERANDS}) }} "
        '<domain: "local", opset_import: ["" : 18]> norm (x, s, b, m, v) => (y) '
        "{ y = BatchNormalization(x, s, b, m, v) }"
    )
    path = convert(onnx.parser.parse_model(text), tmp_path / "model.ort")
    (layer,) = read(path)[0].layers
    assert [*layer.running_mean.values] == [5, 6]


def test_external_data_of_the_onnx_model_is_in_the_ort_file(tmp_path: Path) -> None:
    values = onnx.numpy_helper.from_array
    import numpy

    channels = 512
    made = onnx.helper.make_graph(
        [onnx.helper.make_node("BatchNormalization", ["x", *"abcd"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, channels])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, channels])],
        [values(numpy.arange(1, channels + 1, dtype="float32"), name) for name in "abcd"],
    )
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 10
    source = tmp_path / "model.onnx"
    onnx.save(model, source, save_as_external_data=True, location="model.data", size_threshold=0)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.graph_optimization_level = LEVELS.ORT_DISABLE_ALL
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    (layer,) = read(tmp_path / "model.ort")[0].layers
    assert [*layer.running_var.values] == [*range(1, channels + 1)]


def block(opened: str = "") -> Any:
    """Convolution, normalization, activation; wide enough for every fusion."""
    import numpy

    chance = numpy.random.default_rng(0)
    names = ("scale", "shift", "mean")
    held = [
        onnx.numpy_helper.from_array(chance.random((16, 16, 3, 3), "float32"), "kernel"),
        *(onnx.numpy_helper.from_array(chance.random(16, "float32"), name) for name in names),
        onnx.numpy_helper.from_array(chance.random(16, "float32") + 1, "variance"),
    ]
    if opened:
        held = [each for each in held if each.name != opened] + [
            onnx.numpy_helper.from_array(numpy.full(16, numpy.nan, "float32"), opened)
        ]
    nodes = [
        onnx.helper.make_node("Conv", ["x", "kernel"], ["c"], "conv", pads=[1] * 4),
        onnx.helper.make_node("BatchNormalization", ["c", *names, "variance"], ["n"], "norm"),
        onnx.helper.make_node("Add", ["n", "x"], ["s"], "add"),
        onnx.helper.make_node("Relu", ["s"], ["y"], "act"),
    ]
    shape = [1, 16, 8, 8]
    info = onnx.helper.make_tensor_value_info
    made = onnx.helper.make_graph(nodes, "g", [info("x", 1, shape)], [info("y", 1, shape)], held)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 10
    return model


OPTIMIZED = ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]


@pytest.mark.parametrize("level", OPTIMIZED)
def test_fused_operators_are_written_out(level: str, tmp_path: Path) -> None:
    path = convert(block(), tmp_path / "model.ort", getattr(LEVELS, level))
    (model,) = read(path)
    kinds = [node.kind for node in model.graph.nodes if node.kind is not NodeKind.IDENTITY]
    assert kinds == [NodeKind.CONV, NodeKind.ADD, NodeKind.RELU]
    assert not model.layers
    assert model.statistics_gone is not None
    assert "onnxruntime folded it (1 site)" in model.statistics_gone.why


@pytest.mark.parametrize("level", OPTIMIZED)
def test_broken_statistics_that_onnxruntime_folded_are_found(
    level: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = convert(block("mean"), tmp_path / "model.ort", getattr(LEVELS, level))
    assert main([str(path)]) == 1
    assert "BN709" in capsys.readouterr().out


BROKEN = {
    "BN201": f"{X} => {Y} <{NORM}> {{ y = BatchNormalization(x, {OPERANDS}) }}",
    "BN101": f"{X} => {Y} <{NORM}> "
    f"{{ y, m, v = BatchNormalization<training_mode = 1>(x, {OPERANDS}) }}",
    "BN104": f"(float[1, 2, 4, 4] x, float[2] v) => {Y} <{NORM}> "
    "{ y = BatchNormalization(x, bn_weight, bn_bias, bn_running_mean, v) }",
    "BN506": f"{X} => {Y} <{NORM}> {{ y = BatchNormalization<epsilon = -1.0>(x, {OPERANDS}) }}",
}


@pytest.mark.parametrize("rule", BROKEN)
def test_the_report_is_that_of_the_onnx_model(
    rule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = onnx.parser.parse_model(HEAD + BROKEN[rule])
    if rule == "BN201":
        held = {each.name: each for each in proto.graph.initializer}
        held["bn_running_var"].ClearField("float_data")
        held["bn_running_var"].float_data.extend([1, float("nan")])
    onnx.save(proto, tmp_path / "model.onnx")
    convert(proto, tmp_path / "model.ort")
    assert main([str(tmp_path), "--format", "json"]) == 1
    of_onnx, of_ort = json.loads(capsys.readouterr().out)["files"]
    assert (of_onnx.pop("format"), of_ort.pop("format")) == ("onnx", "ort")
    assert of_onnx.pop("path") != of_ort.pop("path")
    assert rule in [finding["rule"] for finding in of_ort["findings"]]
    assert of_ort == of_onnx


def test_a_folder_is_searched_for_ort_files_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(onnx.parser.parse_model(HEAD + BROKEN["BN101"]), tmp_path / "model.ort")
    assert main([str(tmp_path), "--format", "json"]) == 1
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert (file["format"], file["content"]) == ("ort", "graph")
