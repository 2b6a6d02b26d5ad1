"""What onnx and onnxruntime read too is the same: no other model is shown than runs.

Mutants of sound files are given to bncheck and to the library that would run them. Where both read
one, names, shapes, types and values must agree; each test holds how often both do, at least.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mutations
import pytest
from agreement import mutants, values_of
from onnx_seeds import ONNX

from bncheck.errors import UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.readers import onnx as onnx_reader
from bncheck.readers.source import BytesSource
from bncheck.tensor import Tensor

numpy = pytest.importorskip("numpy")
onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")


def ours(data: bytes) -> Any:
    try:
        (model,) = onnx_reader.read(BytesSource(data))
        return model
    except UnreadableModel:
        return None


def parsed(data: bytes) -> Any:
    try:
        return onnx.load_from_string(data)
    except Exception:  # of protobuf
        return None


def seed_models() -> list[bytes]:
    texts = (ONNX["an old opset"], BATCH_NORM)
    return [onnx.parser.parse_model(text).SerializeToString() for text in texts]


BATCH_NORM = """
<ir_version: 8, opset_import: ["" : 15]>
g (float[2, 3, 1, 1] x) => (float[2, 3, 1, 1] y)
<float[3] s = {1, 2, 3}, float[3] b = {0, -1, 4}, float[3] m = {0, 1, 2}, float[3] v = {1, 1, 2}> {
  i = Identity(s)
  n = BatchNormalization<epsilon = 0.5>(x, i, b, m, v)
  y = Relu(n)
}
"""


def test_onnx_graphs() -> None:
    """Every node's operator, name and attributes of a BatchNormalization, and its values."""
    agreed = 0
    for data in mutants(seed_models(), 3000, mutations.changed):
        model, proto = ours(data), parsed(data)
        if model is None or proto is None:
            continue
        nodes = {output: node for node in proto.graph.node for output in node.output}
        for node in (node for node in model.graph.nodes if any(node.outputs)):
            assert {node.op} == {nodes[output].op_type for output in node.outputs if output}, data
        for layer in model.layers:
            agreed += same_layer(layer, proto, nodes)
    assert agreed > 700


def same_layer(layer: Any, proto: Any, nodes: Mapping[str, Any]) -> bool:
    """Whether the values are known; fails where they are others than protobuf's."""
    held = {tensor.name: tensor for tensor in proto.graph.initializer}
    theirs = nodes[layer.calls[0].outputs[0]]
    for role, name in zip(("bias", "running_mean", "running_var"), theirs.input[2:], strict=False):
        tensor = layer.facts.get(role)
        if name not in held or not isinstance(tensor, Tensor):
            continue
        try:
            values = values_of(tensor)
        except UnreadableModel:
            return False
        if values is not None:
            expected = onnx.numpy_helper.to_array(held[name]).astype("f8").flatten().tolist()
            assert repr(values) == repr(expected), proto
    return True


def with_runtime(data: bytes) -> list[float] | None:
    """What onnxruntime computes for two inputs."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        x = numpy.array([[5, 6, 7], [9, 8, 7.5]], "f4").reshape(2, 3, 1, 1)
        (y,) = session.run(None, {session.get_inputs()[0].name: x})
    except Exception:  # of the runtime
        return None
    return [float(value) for value in y.flatten()]


def our_output(model: Any) -> list[float] | None:
    """The same from the facts of the one layer; None where the graph became another."""
    ops = [(node.op, node.inputs, node.outputs) for node in model.graph.nodes]
    inputs, outputs = model.graph.inputs, model.graph.outputs
    expected = [("BatchNormalization", inputs[:1], ("n",)), ("Relu", ("n",), outputs)]
    if ops != expected or len(model.layers) != 1 or model.layers[0].training:
        return None
    layer = model.layers[0]
    try:
        held = [numpy.array(getattr(layer, role).values, "f8") for role in ROLES]
    except (UnreadableModel, UnknownFact, AttributeError):
        return None
    if {each.size for each in held} != {3}:
        return None
    weight, bias, mean, var = held
    x = numpy.array([[5, 6, 7], [9, 8, 7.5]])
    y = weight * (x - mean) / numpy.sqrt(var + layer.eps) + bias
    return [float(value) for value in numpy.maximum(y, 0).flatten()]


ROLES = ("weight", "bias", "running_mean", "running_var")


def test_onnx_values_are_those_that_run() -> None:
    agreed = 0
    seed = onnx.parser.parse_model(BATCH_NORM).SerializeToString()
    for data in mutants([seed], 1000, mutations.changed):
        model = ours(data)
        found = None if model is None else our_output(model)
        expected = None if found is None else with_runtime(data)
        if found is None or expected is None or not numpy.isfinite(expected).all():
            continue  # numbers so large that float32 cannot hold what comes between
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3, nan_ok=True), data
        agreed += 1
    assert agreed > 130
