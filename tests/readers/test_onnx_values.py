"""Values of ONNX tensors: every way to store them, read on touch and never before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bncheck.errors import UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.graph import NodeKind
from bncheck.model import Model
from bncheck.readers.onnx import read
from bncheck.readers.source import BytesSource, FileSource
from bncheck.tensor import DTYPES, Tensor

onnx = pytest.importorskip("onnx")
numpy = pytest.importorskip("numpy")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402  (after the skip)

RAW_NUMBERS = [0, 1, 2, 100, 3]


def stored(tensor: Any) -> Tensor:
    """A tensor as the scale of a normalization."""
    found = model_with(tensor).layers[0].weight
    assert found is not None
    return found


def model_with(tensor: Any) -> Model:
    tensor.name = "w"
    (found,) = read(BytesSource(proto_with(tensor).SerializeToString()))
    return found


def proto_with(*tensors: Any) -> Any:
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("RMSNormalization", ["x", tensor.name], [f"y{i}"])
        for i, tensor in enumerate(tensors)
    ]
    graph = helper.make_graph(nodes, "g", [info("x", 1, [1])], [info("y0", 1, None)], tensors)
    return helper.make_model(graph)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "bfloat16"])
def test_every_type_is_read_from_raw_and_from_typed_data(dtype: str, raw: bool) -> None:
    exact = numpy.array(RAW_NUMBERS, dtype)
    data_type = helper.np_dtype_to_tensor_dtype(exact.dtype)
    values = exact.tobytes() if raw else exact
    found = stored(helper.make_tensor("w", data_type, [5], values, raw=raw))
    assert (found.shape, found.dtype, list(found.values)) == ((5,), dtype, list(exact))


@pytest.mark.parametrize("raw", [True, False])
def test_bfloat16_is_read_from_raw_and_from_typed_data(raw: bool) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    exact = numpy.array([1.5, -2.0, 3e38], ml_dtypes.bfloat16)
    values = exact.tobytes() if raw else exact
    found = stored(helper.make_tensor("w", TensorProto.BFLOAT16, [3], values, raw=raw))
    assert (found.dtype, list(found.values)) == ("bfloat16", list(exact.astype("float32")))


EXTREMES = {
    "int8": [-128, 127],
    "int16": [-32768, 32767],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "uint8": [0, 255],
    "uint16": [0, 65535],
    "uint32": [0, 2**32 - 1],
    "uint64": [0, 2**64 - 1],
    "float16": [-65504.0, 6e-8],
    "float32": [float("inf"), -1e-45],
    "float64": [-1e308, 5e-324],
}


@pytest.mark.parametrize(("dtype", "extremes"), EXTREMES.items())
def test_extremes_survive_typed_data(dtype: str, extremes: list[float]) -> None:
    exact = numpy.array(extremes, dtype)
    data_type = helper.np_dtype_to_tensor_dtype(exact.dtype)
    assert list(stored(helper.make_tensor("w", data_type, [2], exact)).values) == list(exact)


def weight_from(wire: bytes) -> Tensor:
    """The scale of a normalization whose TensorProto is written as given, then named."""
    proto = proto_with(TensorProto(name="w"))
    del proto.graph.initializer[:]
    named = wire + TensorProto(name="w").SerializeToString()
    graph = proto.graph.SerializeToString() + b"\x2a" + bytes([len(named)]) + named
    proto.ClearField("graph")
    (found,) = read(BytesSource(proto.SerializeToString() + b"\x3a" + bytes([len(graph)]) + graph))
    assert found.layers[0].weight is not None
    return found.layers[0].weight


TWO_FLOATS = b"\x08\x02\x10\x01"  # dims 2, data_type 1
UNPACKED, PACKED = b"\x25\0\0\xc0\x3f", b"\x22\x04\0\0\x20\x40"  # float_data 1.5, then 2.5


def test_unpacked_and_packed_elements_may_alternate() -> None:
    assert list(TensorProto.FromString(UNPACKED + PACKED).float_data) == [1.5, 2.5]
    assert list(weight_from(TWO_FLOATS + UNPACKED + PACKED).values) == [1.5, 2.5]


def test_floats_may_not_end_within_a_number() -> None:
    weight = weight_from(TWO_FLOATS + UNPACKED + b"\x22\x03\0\0\x20")
    with pytest.raises(UnreadableModel, match="ends within a number"):
        _ = weight.values


def test_raw_data_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UnreadableModel, match="twice"):
        weight_from(TWO_FLOATS + (b"\x4a\x08" + b"\0" * 8) * 2)


@pytest.mark.parametrize(
    ("number", "name"),
    [(17, "float8e4m3fn"), (20, "float8e5m2fnuz"), (22, "int4"), (14, "complex64"), (8, "string")],
)
def test_other_types_keep_their_name_and_no_values(number: int, name: str) -> None:
    found = stored(TensorProto(data_type=number, dims=[2], raw_data=b"\x00"))
    assert (found.dtype, found.shape) == (name, (2,))
    with pytest.raises(UnknownFact, match=f"does not decode {name}"):
        _ = found.values


def test_a_type_that_is_not_invented_yet_has_a_name_too() -> None:
    assert stored(TensorProto(data_type=99)).dtype == "type-99"


def test_all_names_of_types_are_onnx_s() -> None:
    from bncheck.readers.onnx.tensor import DATA_TYPES

    ours = {"float32": "FLOAT", "float64": "DOUBLE"}
    known = [ours.get(name, name.upper()) for name in DATA_TYPES]
    theirs = TensorProto.DataType.items()
    assert [name for name, _ in sorted(theirs, key=lambda item: item[1])] == known[: len(theirs)]


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        ({"dims": [3], "raw_data": b"\0" * 8}, "holds 8 bytes instead of 12"),
        ({"dims": [-1], "raw_data": b"\0" * 4}, "impossible shape"),
        ({"dims": [1] * 65, "raw_data": b"\0" * 4}, "impossible shape"),
        ({"dims": [1], "raw_data": b"\0" * 4, "float_data": [1.0]}, "twice"),
        ({"dims": [1], "float_data": [1.0], "int32_data": [1]}, "twice"),
        ({"dims": [1], "raw_data": b"\0" * 4, "data_location": 1}, "twice"),
    ],
)
def test_tensors_that_contradict_themselves_are_refused_at_once(
    tensor: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnreadableModel, match=reason):
        model_with(TensorProto(data_type=1, **tensor))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        ({"data_type": 1, "dims": [3], "float_data": [1.0]}, "holds 1 values"),
        ({"data_type": 1, "dims": [3]}, "holds 0 values"),
        ({"data_type": 1, "dims": [1], "int32_data": [1]}, "in a way that is not for float32"),
        ({"data_type": 3, "dims": [1], "int32_data": [128]}, "what is no int8"),
        ({"data_type": 2, "dims": [1], "int32_data": [-1]}, "what is no uint8"),
        ({"data_type": 10, "dims": [1], "int32_data": [70000]}, "what is no float16"),
        ({"data_type": 12, "dims": [1], "uint64_data": [1 << 32]}, "what is no uint32"),
        (
            {"data_type": 1, "dims": [1], "float_data": [1.0], "segment": {"begin": 0, "end": 1}},
            "segments",
        ),
    ],
)
def test_values_that_are_not_all_there_are_refused_on_touch(
    tensor: dict[str, Any], reason: str
) -> None:
    found = stored(TensorProto(**tensor))
    with pytest.raises(UnreadableModel, match=reason):
        _ = found.values


# External data


def external(**entries: str) -> Any:
    tensor = TensorProto(name="w", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def read_beside(folder: Path, tensor: Any) -> Tensor:
    path = folder / "model.onnx"
    path.write_bytes(proto_with(tensor).SerializeToString())
    (found,) = read(FileSource(path))
    weight = found.layers[0].weight
    assert weight is not None
    return weight


@pytest.mark.parametrize(
    ("place", "values"),
    [
        ({}, [1, 2]),
        ({"offset": "4"}, [2, 3]),
        ({"offset": "8", "length": "8"}, [3, 4]),
        ({"length": "8", "checksum": "ignored"}, [1, 2]),
    ],
)
def test_external_values_are_read_from_beside_the_model(
    tmp_path: Path, place: dict[str, str], values: list[float]
) -> None:
    (tmp_path / "w.bin").write_bytes(numpy.array([1, 2, 3, 4], "<f4").tobytes())
    assert list(read_beside(tmp_path, external(location="w.bin", **place)).values) == values


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ({"location": "gone.bin"}, "'gone.bin' is missing beside the model; copy it there"),
        ({}, "'' is missing beside the model"),
        ({"location": "w.bin", "offset": "12"}, "ends at byte 16, but says"),
        ({"location": "w.bin", "offset": str(1 << 62)}, "ends at byte 16, but says"),
        ({"location": "w.bin", "offset": "-4"}, "no sound place"),
        ({"location": "w.bin", "offset": "٤"}, "no sound place"),  # a digit, but not ASCII
        ({"location": "w.bin", "length": "9" * 5000}, "no sound place"),
        ({"location": "w.bin", "length": "16"}, "another size"),
        ({"location": "../w.bin"}, "outside its own folder"),
        ({"location": "sub/../../w.bin"}, "outside its own folder"),
        ({"location": "/etc/hostname"}, "outside its own folder"),
        ({"location": "w\0.bin"}, "cannot be found"),
        ({"location": "."}, "not a regular file"),
        ({"location": "a" * 5000}, "cannot be found"),
    ],
)
def test_external_values_that_cannot_be_read_say_why(
    tmp_path: Path, place: dict[str, str], reason: str
) -> None:
    (tmp_path / "w.bin").write_bytes(b"\0" * 16)
    weight = read_beside(tmp_path, external(**place))
    with pytest.raises(UnreadableModel, match=reason):
        _ = weight.values


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="needs symbolic links")
def test_external_data_may_not_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 16)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(UnreadableModel, match="links out"):
        _ = read_beside(folder, external(location="w.bin")).values


def test_one_location_said_twice_is_refused() -> None:
    tensor = external(location="a.bin")
    tensor.external_data.add(key="location", value="b.bin")
    with pytest.raises(UnreadableModel, match="twice"):
        model_with(tensor)


def test_a_missing_external_file_hides_nothing_else(tmp_path: Path) -> None:
    ratio = external(location="gone.bin")
    ratio.dims[:] = []
    ratio.name = "ratio"
    info = helper.make_tensor_value_info
    nodes = [helper.make_node("Dropout", ["x", "ratio"], ["y"])]
    graph = helper.make_graph(nodes, "g", [info("x", 1, [1])], [info("y", 1, None)], [ratio])
    (found,) = read(BytesSource(helper.make_model(graph).SerializeToString()))
    assert found.graph.nodes[0].attributes == {"training": False}


def test_a_model_saved_with_external_data_reads_as_the_one_saved_without(tmp_path: Path) -> None:
    tensors = [
        numpy_helper.from_array(numpy.random.default_rng(i).random(i + 1).astype("f"), f"w{i}")
        for i in range(20)
    ]
    proto = proto_with(*tensors)
    (inline,) = read(BytesSource(proto.SerializeToString()))
    onnx.save(
        proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0
    )
    assert (tmp_path / "m.data").stat().st_size > 0
    (outside,) = read(FileSource(tmp_path / "m.onnx"))
    for a, b in zip(inline.layers, outside.layers, strict=True):
        assert a.weight is not None
        assert b.weight is not None
        assert a.weight.values == b.weight.values


# What is read, and what is not


class RecordingSource(BytesSource):
    """Remembers which ranges were read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return super().read(offset, length)

    @property
    def total(self) -> int:
        return sum(length for _, length in self.reads)


def network(width: int, depth: int, raw: bool) -> bytes:
    """Convolutions with batch normalization; all weights but the normalizations' are large."""
    info = helper.make_tensor_value_info
    nodes, tensors = [], []
    for i in range(depth):
        weights = numpy.full((width, width, 3, 3), i, "f")
        tensors.append(
            numpy_helper.from_array(weights, f"c{i}.weight")
            if raw
            else helper.make_tensor(f"c{i}.weight", 1, weights.shape, weights.ravel())
        )
        names = [f"b{i}.{each}" for each in ("weight", "bias", "running_mean", "running_var")]
        tensors += [numpy_helper.from_array(numpy.full(4, i, "f"), name) for name in names]
        nodes.append(helper.make_node("Conv", [f"x{i}", f"c{i}.weight"], [f"h{i}"]))
        nodes.append(helper.make_node("BatchNormalization", [f"h{i}", *names], [f"x{i + 1}"]))
    graph = helper.make_graph(
        nodes, "g", [info("x0", 1, [1])], [info(f"x{depth}", 1, None)], tensors
    )
    return bytes(helper.make_model(graph).SerializeToString())


@pytest.mark.parametrize("raw", [True, False])
def test_weights_are_never_read(raw: bool) -> None:
    source = RecordingSource(network(width=64, depth=12, raw=raw))
    (found,) = read(source)
    for layer in found.layers:
        assert layer.running_var is not None
        assert set(layer.running_var.values) == {float(layer.name[1:])}
    assert source.size > 1_700_000
    assert source.total < 60_000
    convolutions = [node for node in found.graph.nodes if node.kind is NodeKind.CONV]
    before = source.total
    weight = convolutions[3].parameters["weight"]
    assert isinstance(weight, Tensor)
    assert set(weight.values) == {3.0}
    assert source.total - before >= 64 * 64 * 9 * 4


def test_the_cost_does_not_follow_the_size_of_the_weights() -> None:
    totals = []
    for width in (32, 256):
        source = RecordingSource(network(width, depth=4, raw=True))
        read(source)
        totals.append(source.total)
    small, large = totals
    assert large < 1.5 * small
