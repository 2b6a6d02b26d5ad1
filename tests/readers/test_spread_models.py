"""Models in several files and unusual containers, written by the libraries themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bncheck.cli import main
from bncheck.errors import UnreadableModel
from bncheck.model import Model
from bncheck.readers import read

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
nn = torch.nn
TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def trained() -> nn.Module:
    """A net of two BatchNorms that has seen a few batches."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    for _ in range(60):
        net(torch.randn(8, 3, 4, 4))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.add_(0.01 * (1 + len(name)))
    return net.eval()


def require_same(model: Model, state: dict[str, torch.Tensor]) -> None:
    assert [layer.name for layer in model.layers] == ["1", "3"]
    for layer in model.layers:
        for role in TENSORS:
            expected = state[f"{layer.name}.{role}"]
            held = getattr(layer, role)
            assert held.shape == tuple(expected.shape)
            assert list(held.values) == expected.flatten().tolist()


def save_shards(state: dict[str, torch.Tensor], folder: Path, stem: str, suffix: str) -> Path:
    """As save_pretrained does: numbered files, and an index beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [*state]
    parts = [names[:5], names[5:9], names[9:]]
    where = {}
    for i, part in enumerate(parts):
        file = f"{stem}-{i + 1:05}-of-{len(parts):05}.{suffix}"
        held = {name: state[name] for name in part}
        if suffix == "safetensors":
            safetensors.save_file(held, folder / file, metadata={"format": "pt"})
        else:
            torch.save(held, folder / file)
        where |= dict.fromkeys(part, file)
    index = folder / f"{stem}.{suffix}.index.json"
    total = {"total_size": sum(tensor.nbytes for tensor in state.values())}
    index.write_text(json.dumps({"metadata": total, "weight_map": where}, indent=2) + "\n")
    return index


@pytest.mark.parametrize(
    ("stem", "suffix", "container"),
    [("model", "safetensors", "safetensors"), ("pytorch_model", "bin", "torch-zip")],
)
def test_shards(stem, suffix, container, tmp_path):
    state = trained().state_dict()
    index = save_shards(state, tmp_path, stem, suffix)
    for target in (index, tmp_path):
        (model,) = read(target)
        assert (model.format, model.holds) == (container, "12 tensors in 3 files")
        require_same(model, state)


def test_shards_in_the_old_format(tmp_path):
    state = trained().state_dict()
    index = save_shards(state, tmp_path, "pytorch_model", "bin")
    for file in tmp_path.glob("*.bin"):
        held = torch.load(file)
        torch.save(held, file, _use_new_zipfile_serialization=False)
    (model,) = read(index)
    assert model.format == "torch-legacy"
    require_same(model, state)


@pytest.mark.parametrize("nested", [False, True])
def test_distributed(nested, tmp_path):
    checkpointing = pytest.importorskip("torch.distributed.checkpoint")
    net = trained()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    whole = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    saved = whole if nested else net.state_dict()
    checkpointing.save(saved, checkpoint_id=tmp_path / "step-3", no_dist=True)
    (model,) = read(tmp_path / "step-3")
    assert (model.format, model.member) == ("torch-distributed", "model" if nested else None)
    assert bool(model.training_state) == nested
    require_same(model, net.state_dict())


def save_package(path: Path, **pickles: object) -> None:
    from torch.package import PackageExporter

    with PackageExporter(path) as exporter:
        exporter.save_text("notes", "readme.txt", "a package")
        exporter.save_source_string("code", "import os\n")
        for name, value in pickles.items():
            exporter.save_pickle("model", f"{name}.pkl", value)


def test_package(tmp_path):
    net = trained()
    save_package(tmp_path / "p.pt", model=net, settings={"lr": 0.1})
    (model,) = read(tmp_path / "p.pt")
    assert (model.format, model.content, model.member) == ("torch-package", "module", None)
    assert [layer.eps for layer in model.layers] == [1e-5, 1e-5]
    require_same(model, net.state_dict())


def test_package_of_two_models_that_share_storages(tmp_path):
    net = trained()
    save_package(tmp_path / "p.pt", model=net, state=net.state_dict())
    module, state = read(tmp_path / "p.pt")
    assert (module.member, state.member) == ("model/model.pkl", "model/state.pkl")
    require_same(module, net.state_dict())
    require_same(state, net.state_dict())


def test_package_of_a_traced_module_is_refused(tmp_path):
    save_package(tmp_path / "p.pt", model=torch.fx.symbolic_trace(trained()))
    with pytest.raises(UnreadableModel, match="code of the package rebuilds"):
        read(tmp_path / "p.pt")


def test_save_pretrained(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.EfficientNetConfig(
        image_size=32,
        width_coefficient=0.1,
        depth_coefficient=0.1,
        hidden_dim=40,
        batch_norm_eps=2e-3,
    )
    net = transformers.EfficientNetModel(config).eval()
    net.save_pretrained(tmp_path, max_shard_size="20KB")
    norms = {
        name: module for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)
    }
    assert (tmp_path / "model.safetensors.index.json").exists()
    (model,) = read(tmp_path)
    assert model.holds.endswith("model_type efficientnet")
    held = {layer.name: layer for layer in model.layers}
    assert held.keys() == norms.keys()
    for name, module in norms.items():
        assert held[name].eps == module.eps == 2e-3
        assert list(held[name].running_var.values) == module.running_var.tolist()


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Callable[..., tuple[int, dict[str, object], str]]:
    """Runs the command line on arguments, with its report as JSON."""
    monkeypatch.chdir(tmp_path)

    def check(*arguments: str) -> tuple[int, dict[str, object], str]:
        code = main(["check", "--format", "json", *arguments])
        captured = capsys.readouterr()
        return code, json.loads(captured.out), captured.err

    return check


def paths(report: dict[str, object]) -> list[tuple[str, str | None]]:
    return [(Path(file["path"]).as_posix(), file["format"]) for file in report["files"]]


def write_everything(root: Path) -> None:
    import torch.distributed.checkpoint as checkpointing

    net = trained()
    save_shards(net.state_dict(), root / "hub", "model", "safetensors")
    (root / "hub" / "config.json").write_text('{"model_type": "mine"}')
    save_shards(net.state_dict(), root / "hub", "pytorch_model", "bin")
    checkpointing.save({"model": net.state_dict()}, checkpoint_id=root / "dist", no_dist=True)
    save_package(root / "package.pt", model=net)
    (root / "mlflow" / "data").mkdir(parents=True)
    torch.save(trained().train(), root / "mlflow" / "data" / "model.pth")
    flavor = {"loader_module": "mlflow.pytorch", "data": "data"}
    lines = "".join(f"    {key}: {value}\n" for key, value in flavor.items())
    (root / "mlflow" / "MLmodel").write_text(f"flavors:\n  python_function:\n{lines}")


def test_a_folder_of_everything(run, tmp_path):
    write_everything(tmp_path / "all")
    code, report, err = run("all")
    assert paths(report) == [
        ("all/package.pt", "torch-package"),
        ("all/dist", "torch-distributed"),
        ("all/hub/model.safetensors.index.json", "safetensors"),
        ("all/hub/pytorch_model.bin.index.json", "torch-zip"),
        ("all/mlflow/data/model.pth", "torch-zip"),
    ]
    assert (code, err) == (0, "")
    assert [len(file["layers"]) for file in report["files"]] == [2] * 5
    levels = {f["rule"]: f["level"] for f in report["files"][-1]["findings"]}
    assert levels["BN101"] == "info"


def test_the_same_module_outside_of_mlflow_is_an_error(run, tmp_path):
    torch.save(trained().train(), tmp_path / "model.pth")
    code, report, _ = run("model.pth")
    assert code == 1
    assert report["files"][0]["findings"][0]["rule"] == "BN101"


@pytest.mark.parametrize("target", ["hub", "hub/model.safetensors.index.json"])
def test_a_missing_shard_hides_nothing_else(run, tmp_path, target):
    save_shards(trained().state_dict(), tmp_path / "hub", "model", "safetensors")
    (tmp_path / "hub" / "model-00002-of-00003.safetensors").unlink()
    torch.save(trained(), tmp_path / "other.pt")
    code, report, err = run(target, "other.pt")
    assert code == 2
    assert "lacks its part 'model-00002-of-00003.safetensors'" in err
    assert [file["verdict"] for file in report["files"]] == ["unreadable", "ok"]


def test_a_broken_index_leaves_its_files_to_be_checked(run, tmp_path):
    index = save_shards(trained().state_dict(), tmp_path / "hub", "model", "safetensors")
    index.write_text(index.read_text()[:-20])
    code, report, _ = run("hub")
    assert code == 2
    assert len(report["files"]) == 4


def test_an_index_cannot_claim_files_of_other_folders(run, tmp_path):
    (tmp_path / "all" / "sub").mkdir(parents=True)
    torch.save(trained(), tmp_path / "all" / "sub" / "good.pt")
    torch.save(trained(), tmp_path / "all" / "z.pt")
    where = {"a": "../sub/good.pt", "b": "../z.pt", "c": str(tmp_path / "all" / "z.pt")}
    index = tmp_path / "all" / "sub" / "x.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    code, report, err = run("all")
    assert code == 2
    assert "outside its own folder" in err
    named = {path for path, _ in paths(report)}
    assert named == {"all/sub/good.pt", "all/sub/x.index.json", "all/z.pt"}


def test_a_shard_that_is_named_is_checked(run, tmp_path):
    save_shards(trained().state_dict(), tmp_path / "hub", "model", "safetensors")
    name = "hub/model-00001-of-00003.safetensors"
    _, report, _ = run("hub", name)
    assert paths(report) == [
        ("hub/model.safetensors.index.json", "safetensors"),
        (name, "safetensors"),
    ]


def test_finds_what_is_wrong_in_a_shard(run, tmp_path):
    state = trained().state_dict()
    state["3.running_var"][2] = -0.1
    save_shards(state, tmp_path / "hub", "model", "safetensors")
    code, report, _ = run("hub")
    assert code == 1
    (finding,) = [f for f in report["files"][0]["findings"] if f["level"] == "error"]
    assert (finding["rule"], finding["layer"]) == ("BN202", "3")
