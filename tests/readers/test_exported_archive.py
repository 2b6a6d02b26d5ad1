"""The archives of torch.export, made by hand: layouts old and new, and hostile ones."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bncheck.errors import UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.model import Model
from bncheck.readers.exported.document import MOST_CONTAINERS, parse

Read = Callable[..., tuple[Model, ...]]
ROLES = ("weight", "bias", "running_mean", "running_var")


def tensor(name: str) -> dict[str, Any]:
    return {"as_tensor": {"name": name}}


def named(**arguments: Any) -> list[dict[str, Any]]:
    return [{"name": name, "arg": held, "kind": 1} for name, held in arguments.items()]


def meta(*shape: int) -> dict[str, Any]:
    strides = [1] * len(shape)
    return {
        "dtype": 7,
        "sizes": [{"as_int": n} for n in shape],
        "strides": [{"as_int": n} for n in strides],
        "storage_offset": {"as_int": 0},
        "requires_grad": True,
        "layout": 7,
    }


def node(target: str, output: str, stack: str = "", **arguments: Any) -> dict[str, Any]:
    return {
        "target": f"torch.ops.{target}",
        "inputs": named(**arguments),
        "outputs": [tensor(output)],
        "metadata": {"nn_module_stack": stack},
    }


def batch_norm(data: str, output: str, **replaced: Any) -> dict[str, Any]:
    arguments = {"input": tensor(data), **{role: tensor(f"b_{role}") for role in ROLES}}
    arguments |= {"training": {"as_bool": False}, "momentum": {"as_float": 0.1}}
    stack = "L__self__,,my.Net;L__self__bn,bn,torch.nn.modules.batchnorm.BatchNorm2d"
    return (
        node("aten.batch_norm.default", output, stack, **arguments, eps={"as_float": 1e-5})
        | replaced
    )


def program(*nodes: dict[str, Any], output: str = "y", **replaced: Any) -> dict[str, Any]:
    """A program whose stored tensors are those of one BatchNorm, and whose one input is x."""
    stored = [
        {"buffer": {"arg": {"name": f"b_{role}"}, "buffer_name": f"bn.{role}"}} for role in ROLES
    ]
    graph = {
        "inputs": [*(tensor(f"b_{role}") for role in ROLES), tensor("x")],
        "outputs": [tensor(output)],
        "nodes": list(nodes),
        "tensor_values": {"x": meta(1, 4, 8, 8)},
    }
    signature = {
        "input_specs": [*stored, {"user_input": {"arg": tensor("x")}}],
        "output_specs": [{"user_output": {"arg": tensor(output)}}],
    }
    module = {"graph": graph | replaced, "signature": signature}
    return {"graph_module": module, "schema_version": {"major": 8, "minor": 20}}


HEALTHY = program(batch_norm("x", "y"))


def weights(**replaced: Any) -> dict[str, Any]:
    return {
        f"bn.{role}": {"path_name": f"weight_{i}", "is_param": False, "use_pickle": False,
                       "tensor_meta": meta(4), **replaced}
        for i, role in enumerate(ROLES)
    }  # fmt: skip


@pytest.fixture
def archive(make: Any) -> Callable[..., bytes]:
    """An archive of torch 2.8 and later; None leaves an entry out."""

    def made(document: Any = HEALTHY, table: Any = None, **entries: bytes | None) -> bytes:
        text = document if isinstance(document, bytes) else json.dumps(document).encode()
        files: dict[str, bytes | None] = {
            "data/weights/model_weights_config.json": json.dumps(
                {"config": table or weights()}
            ).encode(),
            "data/constants/model_constants_config.json": b'{"config": {}}',
            **{f"data/weights/weight_{i}": struct.pack("<4f", *[i + 1.0] * 4) for i in range(4)},
            "models/model.json": text,
            "archive_format": b"pt2",
            **entries,
        }
        held = [
            make.Entry(f"root/{name}", data) for name, data in files.items() if data is not None
        ]
        return bytes(make.zip(*held))

    return made


def test_a_program_without_torch(archive: Any, read_bytes: Read) -> None:
    (model,) = read_bytes(archive())
    (layer,) = model.layers
    assert (layer.name, layer.kind, layer.training, layer.momentum) == ("bn", "batch", False, 0.1)
    assert layer.running_var is not None
    assert [*layer.running_var.values] == [4.0] * 4
    assert layer.num_batches_tracked is None
    assert (model.graph.inputs, model.graph.outputs) == (("x",), ("y",))


def test_one_file_of_tensors_in_place_of_a_table(make: Any, archive: Any, read_bytes: Read) -> None:
    saved = make.torch(make.batch_norm(), make.batch_norm_data())
    data = archive(
        **{"data/weights/model.pt": saved, "data/weights/model_weights_config.json": None}
    )
    (layer,) = read_bytes(data)[0].layers
    assert layer.running_var is not None
    assert [*layer.running_var.values] == [2.0] * 4


@pytest.mark.parametrize("suffix", [".pt", ".json"])
def test_the_layout_before_torch_2_8(make: Any, read_bytes: Read, suffix: str) -> None:
    saved = make.torch(make.batch_norm(), make.batch_norm_data())
    entries = {
        "serialized_exported_program.json": json.dumps(HEALTHY).encode(),
        f"serialized_state_dict{suffix}": saved,
        f"serialized_constants{suffix}": b"",
        "version": b"8.8",
    }
    (model,) = read_bytes(make.zip(*(make.Entry(n, data) for n, data in entries.items())))
    assert model.format == "torch-export"
    (layer,) = model.layers
    assert layer.running_mean is not None
    assert [*layer.running_mean.values] == [0.25] * 4


def test_unions_as_old_versions_wrote_them(archive: Any, read_bytes: Read) -> None:
    """With all alternatives, null where they are not taken."""
    old = json.loads(
        json.dumps(HEALTHY).replace('{"as_bool": false}', '{"as_bool": false, "as_int": null}')
    )
    assert read_bytes(archive(old))[0].layers[0].training is False


def test_tensors_of_a_class_of_their_own_have_unknown_values(
    archive: Any, read_bytes: Read
) -> None:
    (layer,) = read_bytes(archive(table=weights(use_pickle=True)))[0].layers
    assert layer.weight is not None
    assert layer.weight.shape == (4,)
    with pytest.raises(UnknownFact, match="stored as a pickle"):
        _ = layer.weight.values


def test_programs_saved_without_their_tensors(archive: Any, read_bytes: Read) -> None:
    (layer,) = read_bytes(archive(**{"data/weights/weight_0": b""}))[0].layers
    assert layer.weight is not None
    with pytest.raises(UnknownFact, match="saved without them"):
        _ = layer.weight.values
    table = {name: entry for name, entry in weights().items() if name != "bn.weight"}
    (layer,) = read_bytes(archive(table=table))[0].layers
    assert layer.weight is not None
    with pytest.raises(UnknownFact, match="saved without it"):
        _ = layer.weight.values


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (
            {"data/aotinductor/model/x.so": b"\x7fELF", "models/model.json": None},
            "AOTInductor package, which cannot be checked: the weights are compiled in; "
            "check the .pt2 or .onnx",
        ),
        ({"data/executorch/x.pte": b"", "models/model.json": None}, "ExecuTorch"),
        ({"models/model.json": None}, "without a program"),
        ({"data/weights/model_weights_config.json": None}, "lacks 'model_weights_config.json'"),
        ({"data.pkl": b"."}, "two readings"),
        ({"data/weights/weight_1": None}, "lacks the tensor data"),
        ({"data/weights/weight_1": b"1234"}, "shorter than the tensor"),
    ],
)
def test_archives_that_cannot_be_read(
    archive: Any, read_bytes: Read, entries: Any, reason: str
) -> None:
    with pytest.raises(UnreadableModel, match=reason):
        for layer in read_bytes(archive(**entries))[0].layers:
            _ = layer.bias and layer.bias.values


def test_an_old_package_of_compiled_code(make: Any, read_bytes: Read) -> None:
    data = make.zip(make.Entry("data/aotinductor/model/x.so", b"\x7fELF"))
    with pytest.raises(UnreadableModel, match="weights are compiled in"):
        read_bytes(data)


def test_a_second_top_folder_is_refused(make: Any, archive: Any, read_bytes: Read) -> None:
    entries = [make.Entry("a/archive_format", b"pt2"), make.Entry("b/models/model.json", b"{}")]
    with pytest.raises(UnreadableModel, match="more than one top folder"):
        read_bytes(make.zip(*entries))


def graph_of(document: Any) -> Any:
    return document["graph_module"]["graph"]


def deep(levels: int) -> dict[str, Any]:
    """A branch within a branch, and so on."""
    inner: dict[str, Any] = {"inputs": [], "outputs": [], "nodes": [], "tensor_values": {}}
    for _ in range(levels):
        branch = node("higher_order.cond", "z")
        branch["inputs"] = named(graph={"as_graph": {"name": "g", "graph": inner}})
        inner = {"inputs": [], "outputs": [], "nodes": [branch], "tensor_values": {}}
    return program(batch_norm("x", "y"), inner["nodes"][0] if levels else batch_norm("y", "z"))


DAMAGED = [
    (b"", "no JSON"),
    (b"[]", "no JSON object"),
    (b"{" * 5000, "no JSON"),
    (b"[" * 200_000, "no JSON"),
    (b'{"a": ' + b"9" * 10_000 + b"}", "no JSON"),
    (b'{"graph_module": 1, "graph_module": 2}', "names something twice"),
    (b"\xff\xfe{}", "no JSON"),
    ({}, "schema not stated"),
    ({"schema_version": {"major": 99, "minor": 1}}, "schema 99.1"),
    ({"graph_module": None}, "form that bncheck does not know"),
    (program({}), "form that bncheck does not know"),
    (program(batch_norm("x", "y", inputs=7)), "form that bncheck does not know"),
    (program(batch_norm("x", "y", target=None)), "form that bncheck does not know"),
    (program(batch_norm("x", "y", inputs=2 * named(input=tensor("x")))), "does not know"),
    (program(batch_norm("x", "y"), tensor_values={"x": {"sizes": [3]}}), "does not know"),
    (program(batch_norm("nothing", "y")), "nothing makes the value 'nothing'"),
    (program(batch_norm("y", "y")), "nothing makes the value 'y'"),
    (program(batch_norm("x", "x")), "'x' twice"),
    (program(batch_norm("x", "y"), batch_norm("x", "y")), "'y' twice"),
    (program(batch_norm("x", "z")), "nothing makes the value 'y'"),
    (deep(40), "deep"),
]


@pytest.mark.parametrize(("document", "reason"), DAMAGED)
def test_programs_that_are_refused(
    archive: Any, read_bytes: Read, document: Any, reason: str
) -> None:
    with pytest.raises(UnreadableModel, match=reason):
        read_bytes(archive(document))


def test_a_few_bodies_within_bodies_are_read(archive: Any, read_bytes: Read) -> None:
    (model,) = read_bytes(archive(deep(3)))
    assert [each.kind for each in model.graph.nodes] == ["batch-norm"] + ["opaque"] * 3


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (None, "damaged at 'bn.weight'"),
        ({"path_name": 7}, "damaged at"),
        ({"tensor_meta": {}}, "says too little"),
        ({"tensor_meta": meta(4) | {"sizes": [{"as_expr": {}}]}}, "size that is no number"),
        ({"tensor_meta": meta(4) | {"sizes": ["x"]}}, "size that is no number"),
        ({"tensor_meta": meta(4) | {"sizes": [4]}}, "size that is no number"),
        ({"tensor_meta": meta(4) | {"sizes": [{"as_int": -4}]}}, "shape that no tensor can have"),
        ({"tensor_meta": meta(4) | {"strides": []}}, "strides that no tensor can have"),
        ({"tensor_meta": meta(4) | {"storage_offset": {"as_int": -1}}}, "strides that no tensor"),
        ({"tensor_meta": meta(4) | {"storage_offset": {"as_int": 1}}}, "shorter than the tensor"),
        ({"tensor_meta": meta(4) | {"strides": [{"as_int": 2**40}]}}, "elements"),
        ({"tensor_meta": meta(2**40)}, "elements"),
        ({"tensor_meta": meta(4) | {"dtype": 29}}, "values of dtype float8_e4m3fn"),
        ({"tensor_meta": meta(4) | {"dtype": "x"}}, "values of dtype unknown"),
        ({"path_name": "../../../../etc/passwd"}, "lacks the tensor data"),
        ({"path_name": "../constants/model_constants_config.json"}, "lacks the tensor data"),
    ],
)
def test_tables_of_weights_that_do_harm(
    archive: Any, read_bytes: Read, entry: Any, reason: str
) -> None:
    table = weights()
    table["bn.weight"] = entry and table["bn.weight"] | entry
    with pytest.raises((UnreadableModel, UnknownFact), match=reason):
        (layer,) = read_bytes(archive(table=table))[0].layers
        assert layer.weight is not None
        _ = layer.weight.values


def test_a_path_leads_no_further_than_the_archive(
    archive: Any, read_bytes: Read, tmp_path: Any
) -> None:
    (tmp_path / "secret").write_bytes(struct.pack("<4f", 9, 9, 9, 9))
    table = weights(path_name="../../../secret")
    with pytest.raises(UnreadableModel, match="lacks the tensor data"):
        (layer,) = read_bytes(archive(table=table))[0].layers
        _ = layer.weight and layer.weight.values


BOMBS: Mapping[str, bytes] = {
    "objects": b'{"a": [' + b'{"b":1},' * MOST_CONTAINERS + b"{}]}",
    "lists": b'{"a": [' + b"[]," * (2 * MOST_CONTAINERS) + b"[]]}",
    "numbers": b'{"a": [' + b"1," * 20_000_000 + b"1]}",
    "a long text": b'{"a": "' + b"x" * (70 * 2**20) + b'"}',
    "wide characters": b'{"a": "' + b"x" * (20 * 2**20) + "\N{PILE OF POO}".encode() + b'"}',
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_parsed(name: str) -> None:
    tracemalloc.start()
    with pytest.raises(UnreadableModel, match="too large"):
        parse(BOMBS[name], "program")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
