"""TorchScript in, TorchScript out: it loads, computes the same, and what stays has a reason.

What a folded file computes is compared here, in float64, apart from bncheck's own verification.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import script_nets  # noqa: E402
import torch_nets  # noqa: E402
import torch_traps  # noqa: E402
from saved_models import data, largest_error, load, prepared, script  # noqa: E402

from bncheck.errors import CannotFold, UnreadableModel  # noqa: E402
from bncheck.folding import fold  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated at every step
EXACT = 1e-12


def folded(source: Path, **options: Any) -> tuple[Path, Any]:
    target = source.with_name(f"folded{source.suffix}")
    before = source.read_bytes()
    result = fold(source, target, verify=False, **options)
    assert source.read_bytes() == before
    return target, result


@pytest.mark.parametrize("case", script_nets.NETS.values(), ids=script_nets.NETS.keys())
def test_scripted(tmp_path: Path, case: script_nets.Case) -> None:
    make, count, kept = case
    source = script(prepared(make()), script_nets.IMAGE, tmp_path / "model.ts", "script")
    target, result = folded(source)
    assert {each.layer: each.reason for each in result.kept} == kept
    assert len(result.folded) == count
    assert largest_error(source, target, script_nets.IMAGE) < EXACT


@pytest.mark.parametrize("name", script_nets.NETS)
def test_traced(tmp_path: Path, name: str) -> None:
    """A trace reads no attributes by name, and has one branch: nothing more stays."""
    make, _, kept = script_nets.NETS[name]
    module = prepared(make())
    if name == "a dictionary of outputs":
        pytest.skip("torch.jit.trace refuses dictionaries")
    source = script(module, script_nets.IMAGE, tmp_path / "model.ts", "trace")
    target, result = folded(source)
    assert {each.layer for each in result.kept} <= kept.keys()
    assert largest_error(source, target, script_nets.IMAGE) < EXACT


@pytest.mark.parametrize("name", script_nets.NETS)
def test_frozen(tmp_path: Path, name: str) -> None:
    """Freezing inlines all code into one method: what was a function can be folded."""
    make, _, kept = script_nets.NETS[name]
    source = script(prepared(make()), script_nets.IMAGE, tmp_path / "model.ts", "frozen script")
    target, result = folded(source)
    assert len(result.kept) == (len(kept) if name == "a branch behind the convolution" else 0)
    assert largest_error(source, target, script_nets.IMAGE) < EXACT


TRAPS = (
    """
linear of rank 3, as long as wide|linear, transposed, as in PointNet|transposed, grouped, fewer out
two convs behind|average pool, zeros not counted|max pool, negative weights|chunk|overlapping slices
channel shuffle in code|identity|not affine behind another|in training|not finite|read twice
residual block, in place|numbers read besides|written in place behind|layer in a plain list
weight norm|tied weights|encoder called twice|one BatchNorm under two names
""".strip()
    .replace("\n", "|")
    .split("|")
)


@pytest.mark.parametrize("name", TRAPS)
def test_traps(tmp_path: Path, name: str) -> None:
    trap = torch_traps.TRAPS[name]
    module = torch_traps.randomised(trap.make()).double()
    source = script(module, trap.shape, tmp_path / "model.ts", "trace")
    target, _ = folded(source)
    if all(tensor.isfinite().all() for tensor in module.state_dict().values()):
        assert largest_error(source, target, trap.shape) < EXACT
    else:
        load(target)


@pytest.mark.parametrize("name", torch_nets.NETS)
def test_networks(tmp_path: Path, name: str) -> None:
    make, shape, _, kept = torch_nets.NETS[name]
    source = script(prepared(make()), shape, tmp_path / "model.ts", "trace")
    target, result = folded(source)
    assert len(result.kept) == (1 if name == "a matrix product" else kept)
    assert largest_error(source, target, shape) < EXACT


def test_data_of_unknown_rank(tmp_path: Path) -> None:
    """Scripted code tells no rank: of data with three axes the BatchNorm has another channel."""
    make, shape, _, _ = torch_nets.NETS["linear"]
    source = script(prepared(make()), shape, tmp_path / "model.ts", "script")
    _, result = folded(source)
    assert [each.reason for each in result.kept] == ["no-shape"]


@pytest.mark.parametrize("how", ["trace", "script", "frozen script"])
def test_what_is_written_through_a_view(tmp_path: Path, how: str) -> None:
    module = prepared(script_nets.WrittenThroughView())
    source = script(module, script_nets.IMAGE, tmp_path / "model.ts", how)
    target, _ = folded(source)
    assert largest_error(source, target, script_nets.IMAGE) < EXACT


def test_half_precision(tmp_path: Path) -> None:
    module = prepared(torch_nets.Residual()).half()
    source = script(module, torch_nets.IMAGE, tmp_path / "model.ts", "trace")
    target, result = folded(source)
    given = data(torch_nets.IMAGE).half()
    before, after = load(source)(given), load(target)(given)
    assert len(result.folded) == 2
    assert load(target).state_dict()["conv1.bias"].dtype is torch.float16
    assert (before - after).abs().max() < 0.02 * before.abs().max()


def test_a_fold_that_overflows_half_precision_is_given_up(tmp_path: Path) -> None:
    module = prepared(torch_nets.Residual())
    module.bn1.weight.data.fill_(3e4)
    module.bn1.running_var.fill_(1e-4)
    source = script(module.half(), torch_nets.IMAGE, tmp_path / "model.ts", "trace")
    _, result = folded(source)
    assert {each.layer: each.reason for each in result.kept} == {"bn1": "precision"}


def test_extra_files_and_the_mode_stay(tmp_path: Path) -> None:
    made = torch.jit.script(prepared(torch_nets.Residual()))
    torch.jit.save(made, tmp_path / "model.ts", _extra_files={"labels.txt": b"cat\ndog"})
    target, _ = folded(tmp_path / "model.ts")
    extra = {"labels.txt": ""}
    assert not torch.jit.load(target, _extra_files=extra).training
    assert extra == {"labels.txt": b"cat\ndog"}


def test_the_folded_module_can_be_moved_saved_and_folded_again(tmp_path: Path) -> None:
    """A bias that is new is a parameter like the others."""
    source = script(prepared(torch_nets.Residual()), torch_nets.IMAGE, tmp_path / "a.ts", "script")
    target, _ = folded(source)
    module = load(target).float()
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32}
    assert "conv1.bias" in dict(module.named_parameters())
    torch.jit.save(module, tmp_path / "again.ts")
    _, result = folded(tmp_path / "again.ts")
    assert (result.folded, result.kept) == ((), ())


def test_what_is_gone_takes_no_room(tmp_path: Path) -> None:
    make = torch_nets.NETS["residual"][0]
    source = script(prepared(make()), torch_nets.IMAGE, tmp_path / "model.ts", "trace")
    target, result = folded(source)
    names = [name for name in load(target).state_dict() if name.startswith("bn")]
    assert names == []
    assert result.saved["bytes"] == source.stat().st_size - target.stat().st_size > 0
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize(
    ("make", "save", "why"),
    [
        (script_nets.TwoMethods, torch.jit.save, "has the method 'raw' beside forward"),
        (
            torch_nets.Residual,
            lambda made, path: made._save_for_lite_interpreter(str(path)),
            "lite interpreter",
        ),
    ],
)
def test_refused(tmp_path: Path, make: Any, save: Any, why: str) -> None:
    source = tmp_path / "model.ts"
    save(torch.jit.script(prepared(make())), source)
    with pytest.raises(CannotFold, match=why) as caught:
        fold(source, tmp_path / "folded.ts", verify=False)
    assert "\n" not in str(caught.value)
    assert [*tmp_path.iterdir()] == [source]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = script(prepared(torch_nets.Residual()), torch_nets.IMAGE, tmp_path / "a.ts", "trace")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnreadableModel):
        fold(path, tmp_path / "folded.ts", verify=False)
    assert [*tmp_path.iterdir()] == [path]


def test_proof(tmp_path: Path) -> None:
    shape = torch_nets.IMAGE
    source = script(prepared(torch_nets.Residual()), shape, tmp_path / "a.ts", "script")
    proof = fold(source, tmp_path / "folded.ts", trust=True).verification
    assert proof is not None
    assert proof.passed
    assert proof.runs > 1
    assert 0 < proof.max_abs_error < proof.outputs[0].bound
    with pytest.raises(CannotFold, match="nothing was written"):
        fold(source, tmp_path / "other.ts", trust=True, tolerance=1e-30)
    assert not (tmp_path / "other.ts").exists()
