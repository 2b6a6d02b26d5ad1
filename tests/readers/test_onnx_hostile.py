"""Files that are no ONNX models, that are cut off, damaged, or made to hurt."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bncheck.errors import UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.model import Model
from bncheck.readers.onnx import looks_like_onnx, protobuf, read
from bncheck.readers.source import BytesSource
from bncheck.tensor import Tensor

onnx = pytest.importorskip("onnx")

SEED_TEXT = """
<ir_version: 10, producer_name: "seed", opset_import: ["" : 18, "local" : 1]>
g (float[2, 3, 4, 4] x, bool c) => (y)
<float[3] bn_weight = {1, 2, 3}, float[3] bn_bias = {4, 5, 6}, int64[1] axes = {0},
 float[3] bn_mean = {7, 8, 9}, double[3] bn_var = {1, 2, 3}, float[1, 3] r = {1, 2, 3}> {
  s = Squeeze(r, axes)
  v = Cast<to = 1>(bn_var)
  h = local.norm<e = 0.01>(x, bn_weight, bn_bias, bn_mean, v)
  d, mask = Dropout(h)
  i = If (c) <then_branch = t () => (float[2, 3, 4, 4] o) { o = Mul(d, s) },
    else_branch = f () => (float[2, 3, 4, 4] p) <float[3] k = {1, 2, 3}>
      { p = InstanceNormalization(d, k, k) }>
  y = Conv<kernel_shape = [1, 1], auto_pad = "VALID">(i, x)
}
<domain: "local", opset_import: ["" : 18]> norm<e>(a, b, c, d, f) => (r) {
  r = BatchNormalization<epsilon : float = @e>(a, b, c, d, f)
}
"""
SEED: bytes = onnx.parser.parse_model(SEED_TEXT).SerializeToString()
SEED_WITH_METADATA = SEED + onnx.ModelProto(doc_string="d" * 300).SerializeToString()


def number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def message(field: int, payload: bytes) -> bytes:
    return number(field << 3 | 2) + number(len(payload)) + payload


IR_VERSION = b"\x08\x0a"
OPSET = message(8, b"\x10\x12")


def model(graph: bytes) -> bytes:
    return IR_VERSION + message(7, graph) + OPSET


def touch_everything(found: Model) -> None:
    """Reads all values; what a file cannot give is refused in the two ways that are documented."""
    held = [value for layer in found.layers for value in layer.facts.values()]
    held += [value for node in found.graph.nodes for value in node.parameters.values()]
    for value in held:
        if isinstance(value, Tensor):
            try:
                _ = value.values
            except (UnreadableModel, UnknownFact):
                continue
            assert len(value.values) == value.numel


def attempt(data: bytes) -> str:
    """The reason why a file is refused, "" where it is read; nothing else may happen."""
    looks_like_onnx(BytesSource(data))
    try:
        (found,) = read(BytesSource(data))
    except UnreadableModel as error:
        assert "\n" not in error.reason
        return error.reason
    touch_everything(found)
    return ""


def test_the_seed_is_sound() -> None:
    assert attempt(SEED) == ""
    assert attempt(SEED_WITH_METADATA) == ""


@pytest.mark.parametrize("keep", range(1, 100, 7))
def test_a_truncated_file_is_recognised_and_refused_as_such(keep: int) -> None:
    data = SEED[: len(SEED) * keep // 100]
    if len(data) > len(IR_VERSION) + 6:
        assert looks_like_onnx(BytesSource(data))
    with pytest.raises(UnreadableModel, match="truncated"):
        read(BytesSource(data))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_read_or_refused(data: bytes) -> None:
    attempt(data)
    attempt(model(data))
    attempt(model(message(1, data)))
    attempt(model(message(5, data)))


NODE = message(1, message(2, b"y") + message(4, b"Relu"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no graphs"),
        (IR_VERSION, "no graphs"),
        (model(NODE) + message(7, NODE), "2 graphs"),
        (IR_VERSION + b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "truncated"),
        (IR_VERSION + b"\x3a" + b"\x80" * 12, "more than 64 bits"),
        (model(b"\x0b\x0b\x0b\x0c\x0c\x0c"), "unknown type"),
        (model(message(1, message(4, b"\xff\xfe"))), "no UTF-8"),
        (model(message(1, message(4, b"Relu") * 2 + message(1, b"gone"))), "reads 'gone'"),
        (model(b"\x08\x01"), "wrong type"),  # a node that is a number
        (model(message(1, message(5, message(1, b"a") + b"\x18\x01\x15\0\0\0\0"))), "two values"),
        (
            model(message(1, message(5, message(1, b"a") + b"\x18\x01\xa0\x01\x01"))),
            "another type than its value has",
        ),
        (
            model(message(1, message(5, message(1, b"a") + message(5, b"") + message(5, b"")))),
            "two values",
        ),
        (model(message(1, message(5, message(1, b"a")) * 2)), "two attributes 'a'"),
        (model(message(5, message(1, b"\x03"))), "without a name"),
        (model(message(5, b"\x08" + number((1 << 64) - 1))), "impossible shape"),
        (IR_VERSION + message(7, NODE) + message(8, b"\x10\x00"), "imports version 0"),
        (
            IR_VERSION + message(7, NODE) + message(8, b"\x10" + number((1 << 64) - 3)),
            "imports version -3",
        ),
        (b"\x08\x0a" + message(7, NODE), "which version"),
    ],
)
def test_ambiguous_and_unsound_files_are_refused(data: bytes, reason: str) -> None:
    assert reason in attempt(data)


def test_the_last_of_repeated_scalars_counts_as_in_protobuf() -> None:
    data = model(message(1, message(4, b"Exp") + message(2, b"y") + message(4, b"Relu")))
    assert onnx.load_from_string(data).graph.node[0].op_type == "Relu"
    (found,) = read(BytesSource(data))
    assert found.graph.nodes[0].op == "Relu"


def test_a_graph_of_graphs_is_refused_by_depth_without_recursion() -> None:
    body = NODE
    for _ in range(3_000):
        branch = message(1, b"then_branch") + message(6, body) + b"\xa0\x01\x05"
        body = message(1, message(4, b"If") + message(5, branch))
    assert "deep" in attempt(model(body))


def test_nested_types_are_not_followed() -> None:
    type_ = b""
    for _ in range(5_000):
        type_ = message(4, message(1, type_))  # a sequence of sequences of ...
    data = model(message(11, message(1, b"x") + message(2, type_)))
    assert attempt(data) == ""


@pytest.mark.parametrize(
    "graph",
    [
        b"\x0a\x00" * 1_500_000,  # empty nodes
        b"\x2a\x00" * 1_500_000,  # empty initializers
        b"\x5a\x00" * 1_500_000,  # empty inputs
        message(1, b"\x0a\x00" * 1_500_000),  # empty operands
        message(1, b"\x2a\x00" * 1_500_000),  # empty attributes
        message(1, message(5, message(1, b"a") + b"\x40\x01" * 1_500_000)),  # a long list
        message(5, message(8, b"w") + b"\x08\x01" * 1_500_000),  # a long shape
        message(5, message(8, b"w") + message(1, b"\x01" * 3_000_000)),  # the same, packed
        message(5, message(8, b"w") + b"\x25\0\0\0\0" * 700_000),  # unpacked values
        b"\x9a\x06\x00" * 1_000_000,  # fields of a future version
    ],
)
def test_three_megabytes_cost_seconds_at_most(
    graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protobuf, "BUDGET", 2_000_000)
    start = time.process_time()
    attempt(model(graph))
    assert time.process_time() - start < 10


def test_a_huge_shape_costs_nothing() -> None:
    tensor = b"\x08" + number((1 << 63) - 1) + b"\x10\x01" + message(8, b"w")
    norm = message(4, b"RMSNormalization") + message(1, b"x") + message(1, b"w") + message(2, b"y")
    data = IR_VERSION + message(
        7, message(1, norm) + message(5, tensor) + message(11, b"\x0a\x01x")
    )
    (found,) = read(BytesSource(data + message(8, b"\x10\x17")))
    weight = found.layers[0].weight
    assert weight is not None
    assert weight.numel == (1 << 63) - 1
    with pytest.raises(UnknownFact, match="elements are not read"):
        _ = weight.values


@pytest.mark.parametrize(
    "data",
    [
        SEED,
        model(b""),
        model(NODE),
        message(8, b"\x10\x12") + message(7, NODE),  # an order that no writer uses, but some may
        message(7, NODE) + IR_VERSION,
        IR_VERSION + message(2, b"a producer"),  # cut off before its graph
        IR_VERSION + message(2, b"pytorch")[:5],
        IR_VERSION + message(6, b"a doc string" * 1000) + message(7, NODE),
    ],
)
def test_models_are_recognised(data: bytes) -> None:
    assert looks_like_onnx(BytesSource(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08",
        IR_VERSION,
        b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"PK\x03\x04" + b"\0" * 100,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        b'{"json": true}',
        b"\x80\x02}q\0.",  # a pickle
        b"GGUF\x03\0\0\0" + b"\0" * 100,
        b"\x1c\0\0\0TFL3" + b"\0" * 100,
        b"\x08\x01\x12" + number(5000) + message(1, b"meta") * 700,  # a SavedModel
        b"\x08\x04\x12\x20" + message(10, b"\x0a\x05input") * 9,  # Core ML
        message(1, message(1, b"node") + message(2, b"Placeholder")) * 3,  # a frozen GraphDef
        b"\x08\x00" + message(7, NODE),
        IR_VERSION + message(7, b"text that is no graph"),
        IR_VERSION + b"\x38\x01" + message(8, b""),  # the graph is a number
        b"\0" * 1000,
        b"just a text file, nothing more\n" * 10,
    ],
)
def test_other_files_are_not_taken_for_models(data: bytes) -> None:
    assert not looks_like_onnx(BytesSource(data))


def test_recognising_reads_next_to_nothing() -> None:
    class Recording(BytesSource):
        total = 0

        def read(self, offset: int, length: int) -> bytes:
            self.total += length
            return super().read(offset, length)

    source = Recording(IR_VERSION + message(6, b"d" * 100_000) + message(7, NODE * 100_000) + OPSET)
    assert looks_like_onnx(source)
    assert source.total < 200


def test_names_in_messages_stay_on_one_line_and_short() -> None:
    reason = attempt(model(message(1, message(4, b"Re\nlu") + message(1, b"gone\n" * 1000))))
    assert "'Re\\nlu' node reads 'gone\\ngone" in reason
    assert len(reason) < 300
