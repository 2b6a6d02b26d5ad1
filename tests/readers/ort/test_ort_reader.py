"""What the tables of an ORT file say, one by one."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.graph import NodeKind
from bncheck.readers import read
from bncheck.tensor import Tensor

HALVES = struct.pack("<2e", 1.5, -2)
BRAINS = bytes.fromhex("c03f00c0")  # the upper halves of two float32


def operators(model):
    return [node.op for node in model.graph.nodes]


def test_a_batch_norm_has_its_parameters_and_arguments(ort):
    norm = ort.batch_norm(name="norm", epsilon=0.001, momentum=0.75, training_mode=0)
    model = ort.read(ort.graph([norm], ort.parameters()))
    (layer,) = model.layers
    assert (model.format, model.content, model.holds) == ("ort", "graph", "1 BatchNormalization")
    assert (layer.name, layer.kind, layer.num_features) == ("bn", "batch", 2)
    assert (layer.eps, layer.momentum, layer.training) == (0.001, 0.25, False)
    assert [*layer.weight.values] == [1.0, 1.5]
    assert [*layer.running_var.values] == [4.0, 4.5]
    assert (model.graph.inputs, model.graph.outputs) == (("x",), ("y",))
    assert [call.name for call in layer.calls] == ["norm"]


def test_what_is_not_stored_has_the_default_of_the_schema(ort):
    zero = ort.Table({0: "training_mode", 2: ort.Number("i", 2)})  # an integer that is 0
    norm = ort.Table({5: "BatchNormalization", 8: ["x", *"abcd"], 9: ["y"], 10: [zero]})
    (layer,) = ort.read(ort.graph([norm], [ort.floats(name, 1) for name in "abcd"])).layers
    assert (layer.training, layer.eps) == (False, 1e-5)


@pytest.mark.parametrize(
    ("dtype", "raw", "read_as", "values"),
    [
        ("float16", HALVES, "float16", [1.5, -2]),
        ("bf16", BRAINS, "bfloat16", [1.5, -2]),
        ("double", struct.pack("<2d", 0.1, 2), "float64", [0.1, 2]),
        ("int8", b"\x01\xff", "int8", [1, -1]),
        ("int64", struct.pack("<2q", 1 << 40, -1), "int64", [1 << 40, -1]),
    ],
)
def test_tensors_of_any_type(ort, dtype, raw, read_as, values):
    weight = ort.tensor("w", [2], raw, dtype)
    model = ort.read(ort.graph([ort.node("RMSNormalization", "x w", "y")], [weight]))
    tensor = model.layers[0].weight
    assert (tensor.dtype, tensor.shape, [*tensor.values]) == (read_as, (2,), values)


def test_texts_and_sparse_tensors_are_constants_without_values(ort):
    words = ort.Table({0: "s", 2: ort.Number("q", [1]), 3: ort.Number("i", 8), 5: ["word"]})
    indices = ort.tensor("", [1], struct.pack("<q", 3), "int64")
    held = ort.Table({0: ort.floats("w", 7), 1: indices, 2: ort.Number("q", [4])})
    nodes = [ort.node("RMSNormalization", "x w", "n"), ort.node("Add", "n s", "y")]
    model = ort.read(ort.graph(nodes, [words], sparse=[held]))
    weight, bias = model.layers[0].weight, model.graph.nodes[1].parameters["bias"]
    assert (weight.shape, weight.dtype) == ((4,), "float32")
    assert isinstance(bias, Tensor)
    for tensor, reason in ((weight, "sparse"), (bias, "does not decode string")):
        with pytest.raises(UnknownFact, match=reason):
            _ = tensor.values


def test_shapes_are_those_of_tensors(ort):
    sequence = ort.Table({0: "s", 2: ort.Table({1: ort.Number("b", 2), 2: ort.Table({})})})
    untyped = ort.Table({0: "u"})
    of_any_rank = ort.Table(
        {0: "r", 2: ort.Table({1: ort.Number("b", 1), 2: ort.Table({0: ort.Number("i", 1)})})}
    )
    values = [ort.value("x", 2, "height", None, 0), ort.value("y"), sequence, untyped, of_any_rank]
    shapes = ort.read(ort.graph([ort.node("Size", "x", "y")], values=values)).graph.shapes
    assert shapes == {"x": (2, None, None, None), "y": ()}


def test_nodes_are_put_in_an_order_in_which_they_can_run(ort):
    nodes = [
        ort.node("Relu", "c", "y"),
        ort.node("Tanh", "x", "a"),
        ort.node("Add", "b a", "c"),  # what onnxruntime's fusions make comes last
        ort.node("Exp", "x", "b"),
    ]
    assert operators(ort.read(ort.graph(nodes))) == ["Tanh", "Exp", "Add", "Relu"]


def test_an_order_that_can_run_is_kept(ort):
    nodes = [ort.node("Exp", "x", "a"), ort.node("Tanh", "x", "b"), ort.node("Add", "b a", "y")]
    assert operators(ort.read(ort.graph(nodes))) == ["Exp", "Tanh", "Add"]


def test_a_body_waits_for_what_it_captures(ort):
    body = ort.graph([ort.node("Exp", "late", "o")], inputs="", outputs="o")
    nodes = [
        ort.node("If", "x", "y", captured="late", then_branch=body),
        ort.node("Tanh", "x", "late"),
    ]
    model = ort.read(ort.graph(nodes))
    assert operators(model) == ["Tanh", "Exp", "If"]
    assert model.graph.nodes[2].kind is NodeKind.OPAQUE
    assert model.graph.nodes[2].inputs == ("x", "o")


def test_bodies_have_values_and_initializers_of_their_own(ort):
    body = ort.graph(
        [ort.node("InstanceNormalization", "i w w", "y")],
        [ort.floats("w", 1, 2)],
        inputs="i",
        values=[ort.value("y", 1, 2, 3)],
    )
    model = ort.read(ort.graph([ort.node("Loop", "- - x", "y", body=body)]))
    assert operators(model) == ["Loop", "InstanceNormalization", "Loop"]
    assert model.graph.shapes == {"y#2": (1, 2, 3)}
    assert [*model.layers[0].weight.values] == [1, 2]


@pytest.mark.parametrize("version", "123456")
def test_all_versions_of_the_format_are_read(ort, version):
    assert ort.read(ort.graph([ort.node("Relu", "x", "y")]), version=version).format == "ort"


@pytest.mark.parametrize(
    ("opsets", "training"),
    [
        ({"": 13}, True),
        ({"ai.onnx": 13}, True),
        ({"": 15}, False),
        ({"": 13, "ai.onnx": 15}, False),
    ],
)
def test_the_opset_decides_what_an_operator_means(ort, opsets, training):
    """Until opset 13 a BatchNormalization trains where it has more than one output."""
    norm = ort.batch_norm(y="y mean var")
    (layer,) = ort.read(ort.graph([norm], ort.parameters()), opsets=opsets).layers
    assert layer.training is training


@pytest.mark.parametrize(
    ("graph", "options", "reason"),
    [
        (None, {}, "holds no graph"),
        ((), {"version": "7"}, "in version '7' of the ORT format; bncheck reads 1 to 6"),
        ((), {"version": ""}, "in version ''"),
        ((), {"opsets": {}}, "does not say of which version"),
        ((), {"opsets": {"": 0}}, "imports version 0"),
    ],
)
def test_models_that_are_none(ort, graph, options, reason):
    with pytest.raises(UnreadableModel, match=reason):
        ort.read(graph if graph is None else ort.graph([ort.node("Relu", "x", "y")]), **options)


@pytest.mark.parametrize(
    ("initializer", "reason"),
    [
        (("w", [2], None), "holds tensor 'w' without data"),
        (("w", [2], bytes(12)), r"tensor 'w' of shape \[2\] holds 12 bytes instead of 8"),
        (("w", [-1], b""), "an impossible shape"),
        (("", [1], bytes(4)), "an initializer without a name"),
        (("x", [1], bytes(4)), "makes value 'y' twice"),
    ],
)
def test_initializers_that_onnxruntime_would_not_take(ort, initializer, reason):
    name, dims, raw = initializer
    held = [ort.tensor(name, dims, raw)]
    held += [ort.floats("y", 1)] if name == "x" else []
    with pytest.raises(UnreadableModel, match=reason):
        ort.read(ort.graph([ort.node("Relu", "x", "y")], held))


def test_a_tensor_in_another_file_is_refused_as_onnxruntime_does(ort):
    held = ort.tensor("w", [2], None, _6=ort.Number("q", 0))
    with pytest.raises(UnreadableModel, match="keeps tensor 'w' in another file"):
        ort.read(ort.graph([ort.node("Relu", "x", "y")], [held]))


def test_data_in_the_file_counts_before_data_elsewhere_as_in_onnxruntime(ort):
    held = ort.tensor("w", [1], struct.pack("<f", 7), _6=ort.Number("q", 0))
    model = ort.read(ort.graph([ort.node("RMSNormalization", "x w", "y")], [held]))
    assert [*model.layers[0].weight.values] == [7]


def test_the_file_is_told_by_its_content(ort, tmp_path: Path):
    path = tmp_path / "model.bin"
    path.write_bytes(ort.file(ort.graph([ort.batch_norm()], ort.parameters())))
    assert read(path)[0].format == "ort"


def test_an_onnx_file_with_the_identifier_in_a_name_is_onnx(tmp_path: Path):
    """Its producer is called ORTMaker, and the name begins at byte 4."""
    node = b"\x0a\x01x\x12\x01y\x22\x04Relu"
    graph = b"\x0a" + bytes([len(node)]) + node + b"\x5a\x03\x0a\x01x" + b"\x62\x03\x0a\x01y"
    data = b"\x08\x0a\x12\x08ORTMaker\x3a" + bytes([len(graph)]) + graph + b"\x42\x02\x10\x11"
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    assert data[4:8] == b"ORTM"
    assert read(path)[0].format == "onnx"


def test_a_file_that_is_both_is_refused(ort, tmp_path: Path):
    """A sound ORT file whose outermost table lies far behind an ONNX model, as it then must."""
    start = b"\x08\x0a\x12\x04ORTM" + b"\x3a\x04\x0a\x02\x22\x00\x42\x02\x10\x11"
    data = ort.file(ort.graph([ort.node("Relu", "x", "y")]))
    root, wanted = (int.from_bytes(each[:4], "little") for each in (data, start))
    path = tmp_path / "model.ort"
    with path.open("wb") as file:
        file.write(start + b"\xa2\x01" + _varint(wanted - root + len(data)))  # never read
        file.seek(wanted - root + 8)
        file.write(data[8:])
    with pytest.raises(UnreadableModel, match="can be read as ORT format and as ONNX"):
        read(path)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def test_a_training_checkpoint_of_onnxruntime_is_no_model(ort, tmp_path: Path):
    path = tmp_path / "checkpoint"
    path.write_bytes(ort.encode(ort.Table({0: "1"}), identifier=b"ODTC"))
    with pytest.raises(NotAModel, match="onnxruntime training checkpoint"):
        read(path)
