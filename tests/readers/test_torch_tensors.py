"""Tensors that torch itself wrote, in every way that it can, against what torch says they hold."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from bncheck.facts import UnknownFact
from bncheck.readers import read

torch = pytest.importorskip("torch")

WAYS = {
    "zip": {},
    "zip, protocol 4": {"pickle_protocol": 4},
    "zip, protocol 5": {"pickle_protocol": 5},
    "before 1.6": {"_use_new_zipfile_serialization": False},
    "before 1.6, protocol 4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}
BASE = torch.arange(24.0) - 3.25
DENSE = {
    "vector": BASE,
    "matrix": BASE.reshape(4, 6),
    "transposed": BASE.reshape(4, 6).t(),
    "permuted": BASE.reshape(2, 3, 4).permute(2, 0, 1),
    "channels last": BASE.reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "slice": BASE[3:9],
    "steps": BASE[2::5],
    "column": BASE.reshape(4, 6)[:, 2],
    "diagonal": BASE[:16].reshape(4, 4).diagonal(),
    "unfolded": BASE.unfold(0, 4, 2),
    "expanded": BASE[:3].expand(5, 3),
    "scalar": torch.tensor(7),
    "element": BASE[5],
    "empty": torch.empty(0),
    "empty matrix": torch.empty(3, 0, 2),
    "special values": torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0, 1e-45]),
    "double": BASE.double() / 3,
    "half": (BASE / 7).half(),
    "bfloat16": (BASE / 7).bfloat16(),
    "half extremes": torch.tensor([6e-8, 65504, float("inf"), float("nan")]).half(),
    "bool": BASE > 0,
    "parameter": torch.nn.Parameter(BASE),
    "parameter with an attribute": torch.nn.Parameter(BASE),
    "buffer": torch.nn.Buffer(BASE),
    "tensor with an attribute": BASE.clone(),
    **{
        name: (BASE * 3).to(getattr(torch, name))
        for name in ("int8", "int16", "int32", "int64", "float64")
    },
    **{
        name: BASE.abs().to(getattr(torch, name))
        for name in ("uint8", "uint16", "uint32", "uint64")
    },
    "negated on use": torch.complex(BASE, BASE).conj().imag,
    "largest integers": torch.tensor([2**63 - 1, -(2**63), 0]),
}
DENSE["parameter with an attribute"].tag = "x"
DENSE["tensor with an attribute"].tag = "x"
NOT_READ = {
    "complex": (lambda: torch.zeros(3, dtype=torch.complex64), "not decoded"),
    "float8": (lambda: torch.zeros(3).to(torch.float8_e4m3fn), "not decoded"),
    "quantized": (
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "quantized",
    ),
    "quantized by channel": (
        lambda: torch.quantize_per_channel(
            torch.ones(3), torch.ones(3), torch.zeros(3), 0, torch.qint8
        ),
        "quantized",
    ),
    "sparse": (lambda: torch.eye(3).to_sparse(), "sparse"),
    "compressed": (lambda: torch.eye(3).to_sparse_csr(), "sparse"),
    "meta": (lambda: torch.empty(3, device="meta"), "meta"),
}
pytestmark = pytest.mark.filterwarnings("ignore")


def layer(path: Path):
    (model,) = read(path)
    return model.layers[0]


def save(path: Path, tensor, **options) -> Path:
    torch.save({"bn.running_mean": tensor, "bn.running_var": BASE}, path, **options)
    return path


def same(tensor, expected) -> bool:
    """Equal bit for bit, NaN too."""
    exact = expected.detach().flatten().tolist()
    return [*map(repr, map(float, tensor.values))] == [*map(repr, map(float, exact))]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", DENSE)
def test_dense(name, way, tmp_path):
    expected = DENSE[name]
    found = layer(save(tmp_path / "model.pt", expected, **WAYS[way])).running_mean
    assert found.shape == tuple(expected.shape)
    assert found.dtype == str(expected.dtype).removeprefix("torch.")
    assert same(found, expected)


@pytest.mark.parametrize("name", NOT_READ)
def test_not_read(name, tmp_path):
    make_tensor, reason = NOT_READ[name]
    tensor = make_tensor()
    found = layer(save(tmp_path / "model.pt", tensor)).running_mean
    assert found.shape == tuple(tensor.shape)
    with pytest.raises(UnknownFact, match=reason):
        _ = found.values


def test_integers_are_exact(tmp_path):
    big = torch.tensor([2**63 - 1, 2**53 + 1])
    found = layer(save(tmp_path / "model.pt", big)).running_mean
    assert list(found.values) == [2**63 - 1, 2**53 + 1]


@pytest.mark.parametrize("way", WAYS)
def test_tensors_that_share_a_storage_say_so(way, tmp_path):
    mean, var = BASE[:4], BASE[4:8]
    path = tmp_path / "model.pt"
    torch.save(
        {"bn.running_mean": mean, "bn.running_var": var, "bn.weight": BASE + 1}, path, **WAYS[way]
    )
    found = layer(path)
    assert found.running_mean.storage == found.running_var.storage != found.weight.storage
    assert same(found.running_mean, mean)
    assert same(found.running_var, var)


def rewritten(path: Path, compression: int = zipfile.ZIP_STORED, **replaced: bytes) -> bytes:
    """The archive, written again by Python's zipfile; every float is turned around for "big"."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for entry in old.infolist():
            name = entry.filename.rpartition("/")[2]
            data = replaced.get(name, old.read(entry))
            if replaced.get("byteorder") == b"big" and "/data/" in entry.filename:
                data = b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))
            new.writestr(entry.filename, data)
    return buffer.getvalue()


def test_a_file_of_a_big_endian_machine(tmp_path):
    path = save(tmp_path / "model.pt", BASE[2::5])
    path.write_bytes(rewritten(path, byteorder=b"big"))
    assert torch.equal(torch.load(path)["bn.running_mean"], BASE[2::5])
    assert same(layer(path).running_mean, BASE[2::5])


def test_a_file_that_was_compressed(tmp_path):
    path = save(tmp_path / "model.pt", BASE)
    path.write_bytes(rewritten(path, zipfile.ZIP_DEFLATED))
    assert torch.equal(torch.load(path)["bn.running_mean"], BASE)
    assert same(layer(path).running_mean, BASE)


def test_the_old_format_is_little_endian_whatever_it_says_of_its_machine(tmp_path):
    path = save(tmp_path / "model.pt", BASE, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    at = data.index(b"\x88", data.index(b"little_endian"))
    path.write_bytes(data[:at] + b"\x89" + data[at + 1 :])
    assert torch.equal(torch.load(path)["bn.running_mean"], BASE)
    assert same(layer(path).running_mean, BASE)


def test_what_the_tests_make_by_hand_is_what_torch_reads(tmp_path, make):
    path = tmp_path / "model.pt"
    described = {**make.batch_norm(3), "view": make.tensor("bias", (2, 1), (1, 1), 1)}
    path.write_bytes(make.torch(described, make.batch_norm_data(3)))
    loaded = torch.load(path)
    assert loaded["view"].tolist() == [[0.5], [0.5]]
    assert loaded["bn.running_var"].tolist() == [2.0, 2.0, 2.0]


def test_a_module_made_by_hand_is_one_to_torch(tmp_path, make):
    path = tmp_path / "model.pt"
    buffers = {"running_mean": None, "running_var": None, "num_batches_tracked": None}
    module = make.module(
        "torch.nn.modules.batchnorm.BatchNorm2d",
        parameters={"weight": None, "bias": None},
        buffers=buffers,
        num_features=3,
        eps=1e-3,
    )
    path.write_bytes(make.torch(module))
    loaded = torch.load(path, weights_only=False)
    assert type(loaded) is torch.nn.BatchNorm2d
    assert (loaded.eps, loaded.num_features, loaded.running_mean) == (1e-3, 3, None)
