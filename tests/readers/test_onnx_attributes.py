"""Attributes of ONNX nodes, in every form that they may have on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.errors import UnreadableModel
from bncheck.model import Model
from bncheck.readers.onnx import read
from bncheck.readers.onnx.attribute import LONGEST_LIST, LONGEST_STRING
from bncheck.readers.onnx.operation import shortest
from bncheck.readers.source import BytesSource

onnx = pytest.importorskip("onnx")
numpy = pytest.importorskip("numpy")
from onnx import AttributeProto, helper  # noqa: E402  (after the skip)

info = helper.make_tensor_value_info


def model(node: Any, opset: int = 18, constants: tuple[Any, ...] = ()) -> Model:
    graph = helper.make_graph([node], "g", [info("x", 1, [1])], [info("y", 1, None)], constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    proto = helper.make_model(graph, opset_imports=opsets)
    (found,) = read(BytesSource(proto.SerializeToString()))
    return found


def attributes(op: str, *given: Any, **more: Any) -> dict[str, object]:
    node = helper.make_node(op, ["x", "w"], ["y"], **more)
    node.attribute.extend(given)
    constants = (helper.make_tensor("w", 1, [1, 1, 1, 1], [1.0]),)
    return dict(model(node, constants=constants).graph.nodes[0].attributes)


@pytest.mark.parametrize(
    ("given", "axis"),
    [
        (AttributeProto(name="axis", type=AttributeProto.INT, i=2), 2),
        (AttributeProto(name="axis", type=AttributeProto.INT, i=-2), -2),
        (AttributeProto(name="axis", i=2), 2),  # IR version 1 had no types
        (AttributeProto(name="axis", type=AttributeProto.INT), 0),  # a writer without zeros
    ],
)
def test_an_integer_is_read_in_every_form(given: Any, axis: int) -> None:
    assert attributes("Concat", given)["axis"] == axis


def test_lists_and_texts_that_are_left_out_are_empty() -> None:
    nothing = [
        AttributeProto(name="strides", type=AttributeProto.INTS),
        AttributeProto(name="auto_pad", type=AttributeProto.STRING),
    ]
    found = attributes("Conv", *nothing)
    assert (found["stride"], found["padding"]) == ((1, 1), (0, 0))


def test_packed_and_unpacked_lists_read_alike() -> None:
    unpacked = AttributeProto(name="strides", type=AttributeProto.INTS, ints=[3, -1])
    wire = unpacked.SerializeToString()
    packed = wire.replace(
        b"\x40\x03\x40" + b"\xff" * 9 + b"\x01", b"\x42\x0b\x03" + b"\xff" * 9 + b"\x01"
    )
    assert packed != wire
    assert AttributeProto.FromString(packed) == unpacked
    node = helper.make_node("Conv", ["x", "x"], ["y"])
    node.attribute.append(unpacked)
    data = helper.make_model(
        helper.make_graph([node], "g", [info("x", 1, [1])], [info("y", 1, None)])
    ).SerializeToString()
    assert len(packed) == len(wire)
    (found,) = read(BytesSource(data.replace(wire, packed)))
    assert found.graph.nodes[0].attributes["stride"] == (3, -1)


def test_an_attribute_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(UnreadableModel, match="'axis' of the wrong type"):
        attributes("Concat", helper.make_attribute("axis", 1.5))


def test_a_list_of_floats_may_not_end_within_a_number() -> None:
    node = helper.make_node("Constant", [], ["y"], value_floats=[1.0])
    data = helper.make_model(
        helper.make_graph([node], "g", [], [info("y", 1, None)])
    ).SerializeToString()
    cut = data.replace(b"\x3d\x00\x00\x80\x3f", b"\x3a\x03\x00\x80\x3f")
    assert cut != data
    with pytest.raises(UnreadableModel, match="within a number"):
        read(BytesSource(cut))


@pytest.mark.parametrize(
    "more",
    [
        {"nodes_values": [0.5] * LONGEST_LIST},
        {"nodes_featureids": [1] * LONGEST_LIST},
        {"nodes_modes": ["BRANCH_LEQ"] * LONGEST_LIST},
        {"name": "n" * (LONGEST_STRING + 1)},
        {"tensors": [helper.make_tensor("t", 1, [1], [1.0])] * 2},
        {"t": helper.make_tensor_type_proto(1, [1])},
    ],
)
def test_attributes_that_no_layer_has_are_skipped(more: dict[str, Any]) -> None:
    node = helper.make_node("TreeEnsembleClassifier", ["x"], ["y"], domain="ai.onnx.ml", name="")
    node.attribute.extend(helper.make_attribute(name, value) for name, value in more.items())
    found = model(node)
    assert [each.op for each in found.graph.nodes] == ["TreeEnsembleClassifier"]
    assert found.holds == "1 TreeEnsembleClassifier"


def test_a_long_list_costs_no_more_than_its_bytes() -> None:
    class Recording(BytesSource):
        total = 0

        def read(self, offset: int, length: int) -> bytes:
            self.total += length
            return super().read(offset, length)

    node = helper.make_node("TreeEnsembleClassifier", ["x"], ["y"], domain="ai.onnx.ml")
    node.attribute.append(helper.make_attribute("nodes_values", [0.5] * 1_000_000))
    graph = helper.make_graph([node], "g", [info("x", 1, [1])], [info("y", 1, None)])
    source = Recording(helper.make_model(graph).SerializeToString())
    read(source)
    assert source.size > 5_000_000
    assert source.total < 20_000


def test_a_constant_too_long_to_be_an_argument_is_left_to_the_graph() -> None:
    node = helper.make_node("Constant", [], ["y"], value_floats=[0.5] * LONGEST_LIST)
    assert [each.op for each in model(node).graph.nodes] == ["Constant"]


def test_a_sparse_constant_is_a_constant() -> None:
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", 1, [1], [5.0]), helper.make_tensor("i", 7, [1], [2]), [3]
    )
    found = model(helper.make_node("Constant", [], ["y"], sparse_value=sparse))
    assert found.graph.nodes == ()


def test_bodies_in_a_list_are_read_as_well() -> None:
    bodies = [
        helper.make_graph(
            [helper.make_node("InstanceNormalization", ["x", "x", "x"], [f"o{i}"])],
            "b",
            [],
            [info(f"o{i}", 1, None)],
        )
        for i in range(2)
    ]
    node = helper.make_node("Switch", ["x"], ["y"], domain="ai.onnx.ml", cases=bodies)
    found = model(node)
    assert found.graph.nodes[-1].inputs == ("x", "o0", "o1")
    assert [layer.kind for layer in found.layers] == ["instance", "instance"]


def test_a_reference_outside_of_a_function_is_nothing() -> None:
    lost = AttributeProto(name="axis", type=AttributeProto.INT, ref_attr_name="given")
    assert attributes("Concat", lost)["axis"] == 1


def test_files_older_than_opsets_are_of_the_first() -> None:
    node = helper.make_node("Dropout", ["x"], ["y"], is_test=1, ratio=0.25)
    graph = helper.make_graph([node], "g", [info("x", 1, [1])], [info("y", 1, None)])
    proto = helper.make_model(graph, ir_version=2)
    del proto.opset_import[:]
    (found,) = read(BytesSource(proto.SerializeToString()))
    assert found.graph.nodes[0].attributes == {"p": 0.25, "training": False}


def test_the_highest_version_of_a_domain_counts() -> None:
    node = helper.make_node("Dropout", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [info("x", 1, [1])], [info("y", 1, None)])
    opsets = [helper.make_opsetid("", 7), helper.make_opsetid("ai.onnx", 6)]
    (found,) = read(BytesSource(helper.make_model(graph, opset_imports=opsets).SerializeToString()))
    assert found.graph.nodes[0].attributes["training"] is False


@pytest.mark.parametrize("meant", [1e-5, 1e-12, 0.9, 0.999, 0.1, 1.0, 0.0, 123456.7, 3.4028235e38])
def test_floats_are_the_decimals_that_were_meant(meant: float) -> None:
    assert shortest(float(numpy.float32(meant))) == meant


@pytest.mark.parametrize("value", [0.1, 1e300, -1e300, float("inf"), 16777217.0])
def test_numbers_that_are_no_float32_stay_what_they_are(value: float) -> None:
    assert shortest(value) == value
