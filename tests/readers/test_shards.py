"""Models in several files under an index."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.model import Model
from bncheck.readers import read
from bncheck.readers.folders import siblings

INDEX = "model.safetensors.index.json"
ROLES = ("weight", "bias", "running_mean", "running_var")
posix = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


def safetensors(**values: float) -> bytes:
    """Vectors of four equal elements."""
    header = {
        name.replace("__", "."): {
            "dtype": "F32",
            "shape": [4],
            "data_offsets": [16 * i, 16 * i + 16],
        }
        for i, name in enumerate(values)
    }
    text = json.dumps(header).encode()
    data = b"".join(struct.pack("<4f", *[value] * 4) for value in values.values())
    return struct.pack("<Q", len(text)) + text + data


FIRST = safetensors(bn__weight=1.5, bn__bias=0.5)
SECOND = safetensors(bn__running_mean=0.25, bn__running_var=2.0)
MAP = {
    "bn.weight": "a.safetensors",
    "bn.bias": "a.safetensors",
    "bn.running_mean": "b.safetensors",
    "bn.running_var": "b.safetensors",
}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A folder of files; ``index`` is the weight_map, or the text of the index."""

    def write(index: object = MAP, /, **files: bytes) -> Path:
        whole = {"metadata": {"total_size": 64}, "weight_map": index}
        text = index if isinstance(index, bytes) else json.dumps(whole).encode()
        held = {"a.safetensors": FIRST, "b.safetensors": SECOND, INDEX: text}
        held |= {name.replace("_", "."): data for name, data in files.items()}
        for name, data in held.items():
            (tmp_path / name).write_bytes(data)
        return tmp_path

    return write


def reason(path: Path) -> str:
    with pytest.raises(UnreadableModel) as caught:
        read(path)
    return caught.value.reason


@pytest.mark.parametrize("named", ["", INDEX])
def test_a_layer_may_lie_in_two_files(folder, named):
    (model,) = read(folder() / named)
    (layer,) = model.layers
    assert (model.format, model.content, model.member) == ("safetensors", "state_dict", None)
    assert model.holds == "4 tensors in 2 files"
    assert (layer.name, layer.kind) == ("bn", "batch")
    held = [getattr(layer, role).values[0] for role in ROLES]
    assert held == [1.5, 0.5, 0.25, 2.0]


def test_shards_of_torch_save(folder, make):
    tensors, data = make.batch_norm(), make.batch_norm_data()
    parts = [dict([*tensors.items()][:2]), dict([*tensors.items()][2:])]
    where = {name: f"{'ab'[i]}.bin" for i, part in enumerate(parts) for name in part}
    path = folder(where, a_bin=make.torch(parts[0], data), b_bin=make.torch(parts[1], data))
    (model,) = read(path / INDEX)
    assert model.format == "torch-zip"
    assert list(model.layers[0].running_var.values) == [2.0] * 4


def test_what_the_index_does_not_name_is_loaded_all_the_same(folder):
    (model,) = read(folder({name: MAP[name] for name in [*MAP][1:]}))
    assert model.layers[0].weight is not None


def test_tensors_of_two_files_never_share_memory(folder):
    (model,) = read(folder())
    (layer,) = model.layers
    held = [getattr(layer, role).storage for role in ROLES]
    assert len(set(held)) == 4


def test_files_are_opened_a_few_at_a_time(folder, monkeypatch):
    monkeypatch.setattr(siblings, "MAX_OPEN", 1)
    (model,) = read(folder())
    (layer,) = model.layers
    held = [getattr(layer, role).values[0] for role in ROLES]
    assert held == [1.5, 0.5, 0.25, 2.0]


def test_a_shard_may_lie_in_a_folder_below(folder, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.safetensors").write_bytes(FIRST)
    path = folder({**MAP, "bn.weight": "parts/a.safetensors", "bn.bias": "parts/a.safetensors"})
    assert read(path)[0].layers[0].bias is not None


class TestRefused:
    @pytest.mark.parametrize(
        ("where", "said"),
        [
            ({**MAP, "x": "c.safetensors"}, "lacks its part 'c.safetensors'"),
            ({**MAP, "bn.bias": "b.safetensors"}, "expects the tensor 'bn.bias' in 'b.safeten"),
            ({**MAP, "bn.extra": "b.safetensors"}, "expects the tensor 'bn.extra'"),
            ({**MAP, "x": "../a.safetensors"}, "outside its own folder"),
            ({**MAP, "x": "p/../../a.safetensors"}, "outside its own folder"),
            ({**MAP, "x": "/etc/passwd"}, "outside its own folder"),
            ({**MAP, "x": "a\0b"}, "cannot be found"),
            ({**MAP, "x": "y" * 3000}, "cannot be found"),
            ({**MAP, "x": "y" * 5000}, "something else than files"),
            ({**MAP, "x": INDEX}, "neither a safetensors file nor one of torch.save"),
            ({**MAP, "x": ""}, "something else than files"),
            ({**MAP, "x": 1}, "something else than files"),
            ({**MAP, "x": ["a.safetensors"]}, "something else than files"),
            ({}, "is an index of no files"),
            ([], "without a weight_map"),
            (None, "without a weight_map"),
        ],
    )
    def test_what_an_index_says(self, folder, where, said):
        assert said in reason(folder(where) / INDEX)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (b'{"weight_map": {"a": "a.safetensors"', "no JSON"),
            (b'{"weight_map": {"a": "x", "a": "y"}}', "twice"),
            (b'{"weight_map": {}, "weight_map": {}}', "twice"),
            (b'{"weight_map": ' + b"[" * 100_000, "no JSON"),
            (b'{"weight_map": ' + b"[" * 500_000, "values"),
            (b'{"weight_map": [' + b"[]," * 500_000, "values"),
            (b'{"weight_map": \xff}', "no JSON"),
        ],
    )
    def test_what_is_no_sound_json(self, folder, text, said):
        assert said in reason(folder(text) / INDEX)

    def test_an_index_of_too_many_bytes(self, folder):
        path = folder() / INDEX
        path.write_bytes(b'{"weight_map": "')
        os.truncate(path, 2**30)
        assert "over" in reason(path)

    def test_an_index_of_too_many_files(self, folder):
        assert "files" in reason(folder({str(i): f"{i}.bin" for i in range(3000)}))

    def test_a_tensor_in_two_files(self, folder):
        more = safetensors(bn__running_mean=0.0, bn__running_var=1.0, bn__weight=1.0)
        path = folder(b_safetensors=more)
        assert "holds the tensor 'bn.weight' twice" in reason(path)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "'b.safetensors', which is neither"),
            (SECOND[:-1], "'b.safetensors', which has"),
            (b"version https://git-lfs.github.com/spec/v1\n", "'b.safetensors', which is neither"),
        ],
    )
    def test_a_broken_shard_is_named(self, folder, content, said):
        assert said in reason(folder(b_safetensors=content))

    def test_files_of_two_formats(self, folder, make):
        data = make.torch(make.batch_norm(), make.batch_norm_data())
        where = dict.fromkeys(make.batch_norm(), "b.bin") | {"ln.weight": "a.safetensors"}
        path = folder(where, b_bin=data, a_safetensors=safetensors(ln__weight=1.0))
        assert "several formats: safetensors, torch-zip" in reason(path)

    def test_a_shard_that_is_no_state_dict(self, folder, make):
        path = folder(MAP, b_safetensors=make.torch([1, 2]))
        assert "'b.safetensors', which holds no state_dict" in reason(path)

    @posix
    def test_a_link_out_of_the_folder(self, folder, tmp_path_factory):
        path = folder()
        outside = tmp_path_factory.mktemp("outside") / "b.safetensors"
        outside.write_bytes(SECOND)
        (path / "b.safetensors").unlink()
        (path / "b.safetensors").symlink_to(outside)
        assert "links out of its own folder" in reason(path)

    def test_a_shard_that_shrank_meanwhile(self, folder, monkeypatch):
        monkeypatch.setattr(siblings, "MAX_OPEN", 1)
        path = folder()
        (model,) = read(path)
        (path / "a.safetensors").write_bytes(FIRST[:-1])
        with pytest.raises(UnreadableModel, match="truncated"):
            model.layers[0].bias.values  # noqa: B018


@posix
def test_a_hub_cache_keeps_shards_as_blobs(folder, tmp_path_factory):
    blobs = folder()
    snapshot = tmp_path_factory.mktemp("snapshot")
    for name in (INDEX, "a.safetensors", "b.safetensors"):
        (snapshot / name).symlink_to(blobs / name)
    assert len(read(snapshot)[0].layers) == 1


@pytest.mark.parametrize("text", [b"{}", b'{"model_type": "bert"}', b'  {"weights": {}}', b"{"])
def test_other_json_is_no_model(folder, text):
    with pytest.raises(NotAModel):
        read(folder(text) / INDEX)


def test_a_folder_without_an_index_or_with_two_leaves_the_choice(folder):
    path = folder()
    (path / "other.bin.index.json").write_bytes(b"{}")
    assert reason(path) == "is a folder: name the model in it"


def test_the_model_is_that_of_one_file(folder, read_bytes):
    def seen(model: Model) -> list[object]:
        return [
            (layer.name, layer.kind, *(getattr(layer, role).values for role in ROLES))
            for layer in model.layers
        ]

    whole = safetensors(bn__weight=1.5, bn__bias=0.5, bn__running_mean=0.25, bn__running_var=2.0)
    (alone,) = read_bytes(whole, "whole.safetensors")
    assert seen(read(folder())[0]) == seen(alone)
