from __future__ import annotations

import struct

import pytest

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.readers.torch.legacy import MAGIC, PROTOCOL


@pytest.fixture
def legacy(make):
    """A file of before 1.6; ``numels`` says otherwise than the data how long the storages are."""

    def build(value, storages, magic=MAGIC, protocol=PROTOCOL, keys=None, numels=None, width=4):
        keys = list(storages) if keys is None else keys
        parts = [
            make.pickle(each) for each in (magic, protocol, {"little_endian": True}, value, keys)
        ]
        for key, data in storages.items():
            parts += [struct.pack("<q", (numels or {}).get(key, len(data) // width)), data]
        return b"".join(parts)

    return build


def reference(make, key, length=4, kind="FloatStorage", view=None):
    return make.Reference(("storage", make.Name(f"torch.{kind}"), key, "cpu", length, view))


@pytest.fixture
def batch_norm(make):
    """A state_dict whose storages have the sixth value of the old format."""
    ordered = make.Call("collections.OrderedDict")

    def tensor(role):
        arguments = (reference(make, role), 0, (4,), (1,), False, ordered)
        return make.Call("torch._utils._rebuild_tensor_v2", arguments)

    return {f"bn.{role}": tensor(role) for role in ("running_mean", "running_var")}


DATA = {
    "running_mean": struct.pack("<4f", 1, 2, 3, 4),
    "running_var": struct.pack("<4f", 5, 6, 7, 8),
}


def test_reads_a_state_dict(legacy, batch_norm, read_bytes):
    (model,) = read_bytes(legacy(batch_norm, DATA))
    assert (model.format, model.content) == ("torch-legacy", "state_dict")
    assert list(model.layers[0].running_mean.values) == [1, 2, 3, 4]
    assert list(model.layers[0].running_var.values) == [5, 6, 7, 8]


def test_a_view_of_a_storage_begins_where_it_says(make, legacy, batch_norm, read_bytes):
    view = reference(make, "running_var", view=("key", 1, 3))
    arguments = (view, 1, (2,), (1,), False, make.Call("collections.OrderedDict"))
    batch_norm["bn.running_mean"] = make.Call("torch._utils._rebuild_tensor_v2", arguments)
    (model,) = read_bytes(legacy(batch_norm, {"running_var": DATA["running_var"]}))
    assert list(model.layers[0].running_mean.values) == [7, 8]


def test_a_class_comes_with_its_source(make, legacy, read_bytes):
    source = make.Reference(("module", make.Name("my.Net"), "net.py", "class Net: ..."))
    norm = make.module("torch.nn.modules.batchnorm.BatchNorm2d", buffers={"running_mean": None})
    net = make.module("x.X", {"bn": norm})
    pickled = make.pickle(net).replace(
        make.pickle(make.Name("x.X"))[2:-1], make.pickle(source)[2:-1], 1
    )
    data = legacy(None, {}).replace(make.pickle(None), pickled, 1)
    (model,) = read_bytes(data)
    assert model.holds == "Net of 2 modules"
    assert [layer.name for layer in model.layers] == ["bn"]


def test_pickles_longer_than_what_is_read_at_first(legacy, batch_norm, read_bytes):
    value = {"model": batch_norm, "notes": ["x" * 1000 + str(i) for i in range(3000)]}
    assert read_bytes(legacy(value, DATA))[0].member == "model"


REFUSED = {
    "another version": (
        lambda legacy, value: legacy(value, DATA, protocol=1002),
        "another version",
    ),
    "a version that is no number": (
        lambda legacy, value: legacy(value, DATA, protocol=[[[]]]),
        "another version",
    ),
    "keys that are no list": (
        lambda legacy, value: legacy(value, DATA, keys="ab"),
        "names its storages",
    ),
    "a key that no tensor uses": (
        lambda legacy, value: legacy(value, DATA, keys=["x"]),
        "unknown size",
    ),
    "a key that is no text": (
        lambda legacy, value: legacy(value, DATA, keys=[[[]]]),
        "unknown size",
    ),
    "a key twice": (
        lambda legacy, value: legacy(value, DATA, keys=["running_mean", "running_mean"]),
        "unknown size",
    ),
    "a length beyond the file": (
        lambda legacy, value: legacy(value, DATA, numels={"running_var": 5}),
        "truncated download",
    ),
    "a gigantic length": (
        lambda legacy, value: legacy(value, DATA, numels={"running_mean": 2**60}),
        "truncated download",
    ),
    "a negative length": (
        lambda legacy, value: legacy(value, DATA, numels={"running_mean": -1}),
        "truncated download",
    ),
    "a storage of two types": (
        lambda legacy, value: legacy({**value, "x": value["x"]}, DATA),
        "two types",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, make, legacy, batch_norm, read_bytes):
    build, reason = REFUSED[name]
    if name == "a storage of two types":
        batch_norm["x"] = [reference(make, "running_var", kind="IntStorage")]
    with pytest.raises(UnreadableModel, match=reason) as caught:
        read_bytes(build(legacy, batch_norm))
    assert not isinstance(caught.value, NotAModel)


def test_every_truncation_is_refused(legacy, batch_norm, read_bytes):
    data = legacy(batch_norm, DATA)
    for length in range(20, len(data)):
        with pytest.raises(UnreadableModel):
            read_bytes(data[:length])


def test_damage_in_a_large_file_is_found_without_reading_it_all(legacy, read_bytes, monkeypatch):
    from bncheck.readers.source import FileSource

    lengths = []
    plain = FileSource.read

    def counted(self, offset, length):
        lengths.append(length)
        return plain(self, offset, length)

    monkeypatch.setattr(FileSource, "read", counted)
    data = legacy(None, {})
    with pytest.raises(UnreadableModel, match="no opcode"):
        read_bytes(data[:-20] + b"\xff" * 10_000_000)
    assert max(lengths) <= 2**20


def test_a_tensor_longer_than_its_storage(make, legacy, batch_norm, read_bytes):
    short = {**DATA, "running_var": DATA["running_var"][:8]}
    (model,) = read_bytes(legacy(batch_norm, short))
    with pytest.raises(UnreadableModel, match="shorter than the tensor"):
        _ = model.layers[0].running_var.values


def test_complex_storages_beside_are_measured_right(make, legacy, batch_norm, read_bytes):
    value = {"bn": batch_norm, "x": [reference(make, "x", kind="ComplexFloatStorage")]}
    data = legacy(value, {"x": bytes(32), **DATA}, numels={"x": 4})
    assert list(read_bytes(data)[0].layers[0].running_var.values) == [5, 6, 7, 8]
