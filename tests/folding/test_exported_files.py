"""Programs of torch.export in and out: they load, compute the same, and what stays has a reason.

What a folded file computes is compared here, in float64, apart from bncheck's own verification.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import script_nets  # noqa: E402
import torch_nets  # noqa: E402
import torch_traps  # noqa: E402
from saved_models import (  # noqa: E402
    data,
    export,
    export_as_before_2_8,
    largest_error,
    load,
    prepared,
)

from bncheck.errors import CannotFold, UnreadableModel  # noqa: E402
from bncheck.folding import fold  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
EXACT = 1e-12


def folded(source: Path, **options: Any) -> tuple[Path, Any]:
    target = source.with_name("folded.pt2")
    before = source.read_bytes()
    result = fold(source, target, verify=False, **options)
    assert source.read_bytes() == before
    return target, result


@pytest.mark.parametrize("name", torch_nets.NETS)
def test_networks(tmp_path: Path, name: str) -> None:
    make, shape, _, kept = torch_nets.NETS[name]
    source = export(prepared(make()), shape, tmp_path / "model.pt2")
    target, result = folded(source)
    assert len(result.kept) == kept
    assert largest_error(source, target, shape) < EXACT


@pytest.mark.parametrize("name", ["residual", "tied weights", "linear"])
@pytest.mark.parametrize("way", ["decomposed", "dynamic", "before 2.8"])
def test_ways_to_export(tmp_path: Path, name: str, way: str) -> None:
    make, shape, _, kept = torch_nets.NETS[name]
    module, path = prepared(make()), tmp_path / "model.pt2"
    if way == "before 2.8":
        source = export_as_before_2_8(module, shape, path)
    else:
        source = export(module, shape, path, way == "dynamic", way == "decomposed")
    target, result = folded(source)
    assert len(result.kept) == kept
    assert largest_error(source, target, shape) < EXACT
    if way == "dynamic":
        assert load(target)(data((7, *shape[1:]))).shape[0] == 7


TRAPS = (
    """
linear of rank 3, as long as wide|transposed, grouped, fewer out|average pool, zeros not counted
max pool, negative weights|overlapping slices|identity|in training|read twice
residual block, in place|written in place behind|one BatchNorm under two names
""".strip()
    .replace("\n", "|")
    .split("|")
)


@pytest.mark.parametrize("name", TRAPS)
def test_traps(tmp_path: Path, name: str) -> None:
    trap = torch_traps.TRAPS[name]
    module = torch_traps.randomised(trap.make()).double()
    source = export(module, trap.shape, tmp_path / "model.pt2")
    target, _ = folded(source)
    assert largest_error(source, target, trap.shape) < EXACT


def test_what_is_written_through_a_view(tmp_path: Path) -> None:
    module = prepared(script_nets.WrittenThroughView())
    source = export(module, script_nets.IMAGE, tmp_path / "model.pt2")
    target, _ = folded(source)
    assert largest_error(source, target, script_nets.IMAGE) < EXACT


def test_modules_can_be_made_of_a_folded_program(tmp_path: Path) -> None:
    """The inputs and outputs of modules are said once more for that."""
    net = torch_nets.Residual()
    net.fc = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.BatchNorm1d(2))
    module = prepared(net)
    program = torch.export.export(
        module, (data(torch_nets.IMAGE),), preserve_module_call_signature=("fc", "bn1")
    )
    torch.export.save(program, tmp_path / "model.pt2")
    target, _ = folded(tmp_path / "model.pt2")
    made = torch.export.unflatten(torch.export.load(target))
    given = data(torch_nets.IMAGE)
    torch.testing.assert_close(made(given), module(given))


def residual(path: Path) -> Path:
    return export(prepared(torch_nets.Residual()), torch_nets.IMAGE, path)


def test_what_is_gone_takes_no_room(tmp_path: Path) -> None:
    source = residual(tmp_path / "model.pt2")
    target, result = folded(source)
    names = [*torch.export.load(target).state_dict]
    assert [name for name in names if name.startswith("bn")] == []
    assert "conv1.bias" in names
    assert result.saved["bytes"] == source.stat().st_size - target.stat().st_size > 0
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None


def test_a_folded_program_is_one_to_work_with(tmp_path: Path) -> None:
    """Its signature is sound: it can be decomposed, saved, loaded, and folded again."""
    target, _ = folded(residual(tmp_path / "model.pt2"))
    program = torch.export.load(target).run_decompositions()
    torch.export.save(program, tmp_path / "again.pt2")
    again, result = folded(tmp_path / "again.pt2")
    assert (result.folded, result.kept) == ((), ())
    assert largest_error(target, again, torch_nets.IMAGE) < EXACT


def test_programs_with_gradients_are_refused(tmp_path: Path) -> None:
    program = torch.export.export(prepared(torch_nets.Residual()), (data(torch_nets.IMAGE),))
    torch.export.save(program, tmp_path / "model.pt2")
    with zipfile.ZipFile(tmp_path / "model.pt2") as old:
        entries = {name: old.read(name) for name in old.namelist()}
    (document,) = (name for name in entries if name.endswith("models/model.json"))
    entries[document] = entries[document].replace(b'"user_output"', b'"gradient_to_user_input"')
    with zipfile.ZipFile(tmp_path / "training.pt2", "w") as new:
        for name, content in entries.items():
            new.writestr(name, content)
    with pytest.raises((CannotFold, UnreadableModel)) as caught:
        folded(tmp_path / "training.pt2")
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    source = residual(tmp_path / "model.pt2")
    source.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(UnreadableModel):
        folded(source)
    assert [*tmp_path.iterdir()] == [source]


def test_no_torch_without_proof(tmp_path: Path) -> None:
    """Rewriting an archive runs nothing of it, and needs no torch."""
    residual(tmp_path / "model.pt2")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import bncheck\n"
        "result = bncheck.fold('model.pt2', 'folded.pt2', verify=False)\n"
        "assert len(result.folded) == 2\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert largest_error(tmp_path / "model.pt2", tmp_path / "folded.pt2", torch_nets.IMAGE) < EXACT


def test_no_proof_without_trust(tmp_path: Path) -> None:
    source = residual(tmp_path / "model.pt2")
    with pytest.raises(CannotFold, match="--trust"):
        fold(source, tmp_path / "folded.pt2")
    assert [*tmp_path.iterdir()] == [source]


def test_proof(tmp_path: Path) -> None:
    source = residual(tmp_path / "model.pt2")
    proof = fold(source, tmp_path / "folded.pt2", trust=True).verification
    assert proof is not None
    assert proof.passed
    assert len(proof.sites) == 2
    assert all(site.exercised for site in proof.sites)
    with pytest.raises(CannotFold, match="nothing was written"):
        fold(source, tmp_path / "other.pt2", trust=True, tolerance=1e-30)
    assert not (tmp_path / "other.pt2").exists()
