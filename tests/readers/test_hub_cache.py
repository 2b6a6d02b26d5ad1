"""The cache of the Hugging Face hub: each file of a snapshot is a link to a blob.

A file that the user names is followed wherever it leads. What is named inside a file, or found
beside one, must lie in the folder of the file that was named, or, where that was a link, among the
blobs that it leads to.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bncheck.errors import UnreadableModel
from bncheck.readers import read

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
COMMIT = "0123abc"
ROLES = ("weight", "bias", "running_mean", "running_var")


@pytest.fixture
def snapshot(tmp_path: Path) -> Callable[..., Path]:
    """A snapshot of files, as huggingface_hub lays it out."""

    def build(files: dict[str, bytes]) -> Path:
        repository = tmp_path / "hub" / "models--me--net"
        folder = repository / "snapshots" / COMMIT
        (repository / "blobs").mkdir(parents=True)
        for name, data in files.items():
            blob = repository / "blobs" / hashlib.sha256(data).hexdigest()
            blob.write_bytes(data)
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(os.path.relpath(blob, path.parent))
        return folder

    return build


def safetensors(*names: str) -> bytes:
    entries = {
        name: {"dtype": "F32", "shape": [4], "data_offsets": [16 * i, 16 * i + 16]}
        for i, name in enumerate(names)
    }
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<4f", 1, 2, 3, 4) * len(names)


WHOLE = safetensors(*(f"bn.{role}" for role in ROLES))
CONFIG = json.dumps(
    {
        "model_type": "efficientnet",
        "architectures": ["EfficientNetModel"],
        "batch_norm_eps": 1e-3,
    }
).encode()


def shards() -> dict[str, bytes]:
    halves = {"1.safetensors": ROLES[:2], "2.safetensors": ROLES[2:]}
    where = {f"bn.{role}": file for file, roles in halves.items() for role in roles}
    index = json.dumps({"weight_map": where}).encode()
    parts = {file: safetensors(*(f"bn.{r}" for r in roles)) for file, roles in halves.items()}
    return {"model.safetensors.index.json": index, **parts, "config.json": CONFIG}


def onnx_files(folder: str = "onnx/") -> dict[str, bytes]:
    onnx = pytest.importorskip("onnx")
    text = """
    <ir_version: 8, opset_import: ["" : 15]>
    g (float[1, 4, 2, 2] x) => (float[1, 4, 2, 2] y) <float[4] m = {1, 2, 3, 4}> {
      y = BatchNormalization(x, m, m, m, m)
    }
    """
    model = onnx.parser.parse_model(text)
    (tensor,) = model.graph.initializer
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="model.onnx_data")
    data = struct.pack("<4f", 1, 2, 3, 4)
    return {
        f"{folder}model.onnx": model.SerializeToString(),
        f"{folder}model.onnx_data": data,
    }


def values(path: Path) -> list[float]:
    (layer,) = read(path)[0].layers
    assert layer.running_var is not None
    return [*layer.running_var.values]


def test_one_file(snapshot) -> None:
    folder = snapshot({"model.safetensors": WHOLE, "config.json": CONFIG})
    path = folder / "model.safetensors"
    assert values(path) == [1, 2, 3, 4]
    assert read(path)[0].layers[0].eps == 1e-3  # config.json is a link too


@pytest.mark.parametrize("named", ["", "model.safetensors.index.json"])
def test_shards(snapshot, named) -> None:
    folder = snapshot(shards())
    assert values(folder / named) == [1, 2, 3, 4]
    assert read(folder / named)[0].layers[0].eps == 1e-3


@pytest.mark.parametrize("folder", ["", "onnx/"])
def test_external_data(snapshot, folder) -> None:
    path = snapshot(onnx_files(folder)) / folder / "model.onnx"
    assert values(path) == [1, 2, 3, 4]


def test_a_link_to_a_snapshot(snapshot, tmp_path) -> None:
    folder = snapshot(onnx_files(""))
    (tmp_path / "current").symlink_to(folder)
    assert values(tmp_path / "current" / "model.onnx") == [1, 2, 3, 4]


def test_a_link_to_a_file_that_has_its_data_beside_it(tmp_path) -> None:
    """The data is looked for beside the link, as onnxruntime does, not beside the file itself."""
    files = onnx_files("")
    real, links = tmp_path / "real", tmp_path / "links"
    real.mkdir()
    links.mkdir()
    for name, data in files.items():
        (real / name).write_bytes(data)
    (links / "model.onnx").symlink_to(real / "model.onnx")
    with pytest.raises(UnreadableModel, match="missing beside the model; copy it there"):
        values(links / "model.onnx")
    (links / "model.onnx_data").write_bytes(files["model.onnx_data"])
    assert values(links / "model.onnx") == [1, 2, 3, 4]


def odd_shard(folder: Path) -> Path:
    return folder / "2.safetensors"


@pytest.mark.parametrize(
    "elsewhere",
    ["blobs/../../models--other/blobs/x", "snapshots/other/x", "refs/x", "../../outside/x"],
)
def test_only_blobs_of_the_same_repository(snapshot, elsewhere) -> None:
    """A snapshot cannot have bncheck read the blobs of another, or anything else."""
    folder: Path = snapshot(shards())
    repository = folder.parents[1]
    target = Path(os.path.normpath(repository / elsewhere))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(safetensors("bn.running_mean", "bn.running_var"))
    odd_shard(folder).unlink()
    odd_shard(folder).symlink_to(target)
    with pytest.raises(UnreadableModel, match="links out of its own folder"):
        read(folder)


def test_links_of_links(snapshot) -> None:
    """What counts is where a name leads in the end."""
    folder: Path = snapshot(shards())
    (folder / "inner").symlink_to(odd_shard(folder).readlink())
    odd_shard(folder).unlink()
    odd_shard(folder).symlink_to("inner")
    assert values(folder) == [1, 2, 3, 4]
    odd_shard(folder).unlink()
    odd_shard(folder).symlink_to("2.safetensors")
    with pytest.raises(UnreadableModel, match=r"cannot be found|lacks its part|links out"):
        read(folder)


def test_the_flavor_of_mlflow_may_not_link_away(make: Any, tmp_path: Path) -> None:
    module = make.module("torch.nn.modules.batchnorm.BatchNorm2d", training=True)
    path = tmp_path / "artifact" / "data" / "model.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(make.torch(module))
    text = "flavors:\n  python_function:\n    data: data\n    loader_module: mlflow.pytorch\n"
    (tmp_path / "MLmodel").write_text(text)
    (tmp_path / "artifact" / "MLmodel").symlink_to(tmp_path / "MLmodel")
    assert read(path)[0].loader_calls_eval is None
    (tmp_path / "artifact" / "MLmodel").unlink()
    (tmp_path / "artifact" / "MLmodel").write_text(text)
    assert read(path)[0].loader_calls_eval == "MLflow's pyfunc flavor"
