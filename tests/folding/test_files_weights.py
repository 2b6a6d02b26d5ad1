"""Weights with the code that uses them, and pickled modules: folded into files of their format."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

from saved_models import Settings  # noqa: E402
from torch_nets import IMAGE, Residual, randomised  # noqa: E402

from bncheck.errors import CannotFold, UnreadableModel  # noqa: E402
from bncheck.folding import fold  # noqa: E402

ARCH = "torch_nets:Residual"
GIVEN = torch.randn(IMAGE, generator=torch.Generator().manual_seed(1))
Save = Callable[[Any, Path], None]


def network() -> Any:
    torch.manual_seed(0)
    return randomised(Residual())


def folded_network(state: dict[str, Any]) -> Any:
    """What a folded state_dict is for: no BatchNorm, and a bias that was not there."""
    module = Residual().eval()
    module.bn1 = module.bn2 = torch.nn.Identity()
    module.conv1 = torch.nn.Conv2d(3, 4, 3)
    module.load_state_dict(state, assign=True)
    return module


def save_safetensors(state: Any, path: Path) -> None:
    safetensors.save_file(dict(state), path, {"format": "pt", "author": "me"})


def unsafe_load(path: Path) -> Any:
    return torch.load(path, weights_only=False)


@pytest.mark.parametrize(
    ("name", "save", "load"),
    [
        ("weights.pth", torch.save, lambda path: torch.load(path, weights_only=True)),
        ("weights.pt", lambda s, p: torch.save(dict(s), p), torch.load),
        ("weights.safetensors", save_safetensors, safetensors.load_file),
    ],
)
def test_a_state_dict(tmp_path: Path, name: str, save: Save, load: Any) -> None:
    source, target = tmp_path / name, tmp_path / f"folded-{name}"
    save(network().state_dict(), source)
    result = fold(source, target, arch=ARCH)
    assert result.verification is not None
    assert len(result.folded) == 2
    state = load(target)
    assert [name for name in state if name.startswith("bn")] == []
    with torch.no_grad():
        torch.testing.assert_close(folded_network(state)(GIVEN), network()(GIVEN))
    assert load(source).keys() == network().state_dict().keys()


def test_metadata_of_safetensors_stays(tmp_path: Path) -> None:
    save_safetensors(network().state_dict(), tmp_path / "a.safetensors")
    fold(tmp_path / "a.safetensors", tmp_path / "b.safetensors", arch=ARCH)
    from safetensors import safe_open

    with safe_open(tmp_path / "b.safetensors", "pt") as held:
        assert held.metadata() == {"format": "pt", "author": "me"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_file_stays(tmp_path: Path, dtype: Any) -> None:
    torch.save(network().to(dtype).state_dict(), tmp_path / "a.pth")
    fold(tmp_path / "a.pth", tmp_path / "b.pth", arch=ARCH, verify=dtype is torch.float64)
    state = torch.load(tmp_path / "b.pth")
    assert {tensor.dtype for tensor in state.values()} == {dtype}
    bound = {torch.float16: 0.02, torch.bfloat16: 0.1, torch.float64: 1e-12}[dtype]
    with torch.no_grad():
        expected = network().to(dtype)(GIVEN.to(dtype)).double()
        found = folded_network(state).to(dtype)(GIVEN.to(dtype)).double()
    assert (expected - found).abs().max() < bound * expected.abs().max()


def test_all_else_in_a_checkpoint_stays(tmp_path: Path) -> None:
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(GIVEN).sum().backward()
    optimizer.step()
    weights = {f"module.{name}": each for name, each in module.state_dict().items()}
    held = {
        "epoch": 3,
        "state_dict": weights,
        "ema": {"shadow": weights["module.fc.weight"]},
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, names=("a", {"b"}), path=Path("runs")),
        "settings": Settings(0.1, ("a", "b")),
        "big": 1 << 80,
    }
    torch.save(held, tmp_path / "a.ckpt")
    fold(tmp_path / "a.ckpt", tmp_path / "b.ckpt", arch=ARCH)
    made = unsafe_load(tmp_path / "b.ckpt")
    assert made.keys() == held.keys()
    assert (made["epoch"], made["args"], made["big"]) == (3, held["args"], 1 << 80)
    assert made["settings"] == held["settings"]
    assert torch.equal(made["ema"]["shadow"], weights["module.fc.weight"])
    assert str(made["optimizer"]) == str(optimizer.state_dict())
    state = {name.removeprefix("module."): each for name, each in made["state_dict"].items()}
    with torch.no_grad():
        torch.testing.assert_close(folded_network(state)(GIVEN), module.eval()(GIVEN))


def test_one_model_of_several(tmp_path: Path) -> None:
    held = {"model": network().state_dict(), "ema": randomised(Residual(), 7).state_dict()}
    torch.save(held, tmp_path / "a.pth")
    with pytest.raises(CannotFold, match=r"2 models \(model, ema\): choose one with --key"):
        fold(tmp_path / "a.pth", tmp_path / "b.pth", arch=ARCH)
    with pytest.raises(UnreadableModel, match="no model under 'none'"):
        fold(tmp_path / "a.pth", tmp_path / "b.pth", arch=ARCH, key="none")
    fold(tmp_path / "a.pth", tmp_path / "b.pth", arch=ARCH, key="ema")
    made = torch.load(tmp_path / "b.pth")
    assert made["model"].keys() == held["model"].keys()
    assert "bn1.weight" not in made["ema"]


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickled_module(tmp_path: Path, is_zip: bool) -> None:
    torch.save(
        {"net": network(), "epoch": 1},
        tmp_path / "a.pt",
        _use_new_zipfile_serialization=is_zip,
    )
    with pytest.raises(CannotFold, match="--trust"):
        fold(tmp_path / "a.pt", tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()
    fold(tmp_path / "a.pt", tmp_path / "b.pt", trust=True)
    made = unsafe_load(tmp_path / "b.pt")
    assert type(made["net"]) is Residual
    assert isinstance(made["net"].bn1, torch.nn.Identity)
    assert made["epoch"] == 1
    assert ((tmp_path / "b.pt").read_bytes()[:2] == b"PK") is is_zip
    with torch.no_grad():
        torch.testing.assert_close(made["net"](GIVEN), network()(GIVEN))


FACTORIES = """
from torch_nets import Residual
from torch import nn
number = 3
def make(): return Residual()
def needs(classes): return Residual()
def fails(): raise ValueError("no luck\\nat all")
def quits(): raise SystemExit(0)
def wider():
    made = Residual(); made.fc = nn.Linear(4, 7); return made
def other():
    made = Residual(); made.head = made.fc; del made.fc; return made
def none(): return None
"""


@pytest.mark.parametrize(
    ("arch", "why"),
    [
        ("factories", "'factories' is no architecture: write package.module:factory"),
        ("factories:", "'factories:' is no architecture: write package.module:factory"),
        ("nowhere.at_all:make", "nowhere.at_all cannot be imported: No module named 'nowhere'"),
        ("factories:maek", "factories has no 'maek'; did you mean 'make'?"),
        ("factories:make.it", "factories has no 'make.it'"),
        ("factories:number", "factories:number is a int, and cannot be called"),
        ("factories:needs", "factories:needs needs arguments"),
        ("factories:fails", "factories:fails fails: ValueError: no luck"),
        ("factories:quits", "factories:quits ends the process"),
        ("factories:none", "factories:none gives a NoneType, no nn.Module"),
        ("factories:wider", "'fc.weight' is [2, 4] in the file and [7, 4] in the module"),
        ("factories:other", "it has head.weight, head.bias, only the file has fc.weight, fc.bias"),
    ],
)
def test_a_factory_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "factories.py").write_text(FACTORIES)
    torch.save(network().state_dict(), tmp_path / "a.pth")
    with pytest.raises(CannotFold) as caught:
        fold("a.pth", "b.pth", arch=arch)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b.pth").exists()


def test_a_factory_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the working folder is found, as by ``python -m``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_beside.py").write_text(FACTORIES)
    torch.save(network().state_dict(), tmp_path / "a.pth")
    assert len(fold("a.pth", "b.pth", arch="nets_beside:make").folded) == 2


@pytest.mark.parametrize(
    ("save", "options", "why"),
    [
        (torch.save, {}, "name the code that builds the module with --arch"),
        (save_safetensors, {}, "name the code that builds the module with --arch"),
        (torch.save, {"arch": ARCH, "scale_only": True}, "--scale-only"),
        (
            lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
            {"arch": ARCH},
            "torch-legacy is not written",
        ),
        (lambda state, path: torch.save({"a": state}, path), {"arch": ARCH, "key": "b"}, "'b'"),
    ],
)
def test_refused(tmp_path: Path, save: Save, options: dict[str, Any], why: str) -> None:
    source = tmp_path / "a.pth"
    save(network().state_dict(), source)
    with pytest.raises((CannotFold, UnreadableModel)) as caught:
        fold(source, tmp_path / "b.pth", **options)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [*tmp_path.iterdir()] == [source]
