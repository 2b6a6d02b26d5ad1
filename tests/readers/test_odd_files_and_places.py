"""Archives and folders in which scanners stop or are led away, and what comes of them here."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from graphs import external

from bncheck.errors import UnreadableModel
from bncheck.readers import read

posix = pytest.mark.skipif(sys.platform == "win32", reason="files that only POSIX has")


def with_zipfile(data: bytes, change: Callable[[zipfile.ZipInfo], None]) -> bytes:
    """The same archive as Python writes it, its entries changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            content = read_unchecked(data, entry)
            fresh = zipfile.ZipInfo(entry.filename)
            change(fresh)
            new.writestr(fresh, content)
    return buffer.getvalue()


def read_unchecked(data: bytes, entry: zipfile.ZipInfo) -> bytes:
    begin = entry.header_offset + 30 + len(entry.filename.encode())
    return data[begin : begin + entry.file_size]


@pytest.fixture
def sound(make) -> bytes:
    return bytes(make.torch(make.batch_norm(), make.batch_norm_data()))


def test_a_wrong_checksum_hides_nothing(sound, read_bytes) -> None:
    """Scanners stop there, torch does not."""
    with zipfile.ZipFile(io.BytesIO(sound)) as archive, pytest.raises(zipfile.BadZipFile):
        archive.read("archive/data.pkl")
    assert list(read_bytes(sound)[0].layers[0].running_var.values) == [2.0] * 4


def test_an_entry_that_is_a_link_is_data_as_any_other(sound, read_bytes) -> None:
    def link(entry: zipfile.ZipInfo) -> None:
        entry.external_attr = 0o120777 << 16

    assert read_bytes(with_zipfile(sound, link))[0].layers


@pytest.mark.parametrize("root", ["/etc", "..", "../..", "C:", "a/../.."])
def test_names_that_lead_out_of_the_archive_lead_nowhere(root, sound, make, tmp_path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    path = folder / "model.pt"
    path.write_bytes(make.torch(make.batch_norm(), make.batch_norm_data(), root=root))
    before = sorted(tmp_path.rglob("*"))
    try:
        read(path)
    except UnreadableModel as error:
        assert "\n" not in error.reason
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["model.py", "model.txt", "model.json", "model", "model.png"])
def test_any_name_is_looked_into(name, sound, read_bytes) -> None:
    assert read_bytes(sound, name)[0].layers


# Files beside a model


@posix
@pytest.mark.parametrize("name", ["training_args.bin", "config.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_pipes_and_devices_beside_a_model_are_not_read(name, kind, sound, tmp_path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(sound)
    odd(tmp_path / name, kind)
    assert read(path)[0].layers


@posix
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_pipes_and_devices_as_parts_are_refused(kind, tmp_path) -> None:
    index = {"weight_map": {"bn.weight": "part.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    odd(tmp_path / "part.safetensors", kind)
    with pytest.raises(UnreadableModel, match=r"not a regular file|links out"):
        read(tmp_path)


def odd(path: Path, kind: str) -> None:
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()


@posix
def test_a_hard_link_is_a_file_of_the_folder(tmp_path) -> None:
    """Caches are full of them, and nothing tells which name was first: they are read on purpose.

    Only numbers are taken from it, and nobody but the user is told any.
    """
    pytest.importorskip("onnx")
    outside = tmp_path / "outside"
    outside.write_bytes(struct.pack("<4f", 1, 2, 3, 4))
    folder = tmp_path / "model"
    folder.mkdir()
    os.link(outside, folder / "w.bin")
    (folder / "model.onnx").write_bytes(external("w.bin"))
    (layer,) = read(folder / "model.onnx")[0].layers
    assert list(layer.weight.values) == [1, 2, 3, 4]


@posix
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_pipes_and_devices_as_external_data(kind, tmp_path) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / "model.onnx"
    path.write_bytes(external("w.bin"))
    odd(tmp_path / "w.bin", kind)
    (layer,) = read(path)[0].layers
    with pytest.raises(UnreadableModel, match=r"not a regular file|links out"):
        _ = layer.weight.values
