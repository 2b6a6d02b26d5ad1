"""bncheck fold on PyTorch's files: what is asked for before anything is loaded or imported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

from fold_shell import FoldShell  # noqa: E402
from saved_models import export, script  # noqa: E402
from torch_nets import IMAGE, Residual, randomised  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
ARCH = "--arch torch_nets:Residual"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network in every format."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    module = randomised(Residual())
    torch.save(module, folder / "module.pt")
    torch.save(module.state_dict(), folder / "weights.pth")
    safetensors.save_file(module.state_dict(), folder / "weights.safetensors")
    module = module.double()
    export(module, IMAGE, folder / "program.pt2")
    script(module, IMAGE, folder / "traced.ts", "trace")
    return folder


@pytest.fixture
def shell(
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> FoldShell:
    for path in models.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    return FoldShell(tmp_path, capsys.readouterr)


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("program.pt2", "--trust", "--trust: torch loads program.pt2, and may run code from it"),
        ("program.pt2", "--no-verify", ""),
        ("traced.ts", "--trust", "--trust: torch loads traced.ts, and may run code from it"),
        ("traced.ts", "--no-verify", ""),
        ("module.pt", "--trust", "--trust: torch loads module.pt, and may run code from it"),
        ("weights.pth", ARCH, "--arch: imports and runs torch_nets:Residual"),
        ("weights.safetensors", ARCH, "--arch: imports and runs torch_nets:Residual"),
    ],
)
def test_folded_and_what_is_run_is_said(
    shell: FoldShell, source: str, options: str, said: str
) -> None:
    target = f"folded{Path(source).suffix}"
    ran = shell(f"fold {source} -o {target} {options} --report r.json --require-all")
    assert ran.code == 0, ran.err
    assert ran.err == (f"bncheck: {said}\n" if said else "")
    assert ran.out.startswith(f"{target}: 2 of 2 BatchNorm folded\n")
    assert max(map(len, ran.out.splitlines())) <= 80
    report = json.loads((shell.folder / "r.json").read_text())
    assert [each["layer"] for each in report["folded"]] == ["bn1", "bn2"]
    assert (report["verification"] is None) is (options == "--no-verify")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fold program.pt2 -o out.pt2", "allow that with --trust, or fold without proof"),
        ("fold traced.ts -o out.ts", "allow that with --trust, or fold without proof"),
        ("fold module.pt -o out.pt", "allow that with --trust"),
        ("fold module.pt -o out.pt --no-verify", "allow that with --trust"),
        ("fold module.pt --dry-run", "allow that with --trust"),
        ("fold module.pt -o out.pt --trust --arch a:b", "takes --trust, and no --arch"),
        ("fold weights.pth -o out.pth", "with --arch package.module:factory"),
        ("fold weights.safetensors -o out.safetensors", "with --arch package.module:factory"),
        ("fold weights.pth -o out.pth --arch torch_nets:Nothing", "has no 'Nothing'"),
        (f"fold weights.pth -o out.pth {ARCH} --scale-only", "scale-only"),
        (f"fold weights.pth -o weights.pth {ARCH}", "is the model itself"),
        ("fold module.pt -o module.pt --trust", "is the model itself"),
        ("fold program.pt2 -o program.pt2 --trust", "is the model itself"),
        ("fold program.pt2 -o . --no-verify", ".: is a folder"),
        ("fold traced.ts -o out.ts --no-verify --arch a:b", "is a graph of its own"),
        ("fold traced.ts -o out.ts --trust --tolerance 1e-30", "nothing was written"),
        ("fold program.pt2 -o out.pt2 --trust --inputs none.npz", "none.npz: no .npz"),
        ("fold program.pt2 -o out.pt2 --trust --inputs z.npz", "lacks an array 'x'"),
        ("fold traced.ts -o out.ts --trust --inputs z.npz", "lacks an array 'x'"),
        ("fold traced.ts -o out.ts --trust --inputs small.npz", "does not run on the inputs"),
        (f"fold weights.pth -o out.pth {ARCH} --inputs z.npz", "the inputs do not fit"),
    ],
)
def test_refused(shell: FoldShell, line: str, said: str) -> None:
    import numpy as np

    shell.npz("z.npz", z=np.ones(IMAGE))
    shell.npz("small.npz", x=np.ones((2, 5, 8, 8)))
    assert said in shell.fails(line)


def test_a_dry_run_needs_no_trust_where_nothing_is_run(shell: FoldShell) -> None:
    before = shell.names
    for source in ("program.pt2", "traced.ts"):
        ran = shell(f"fold {source} --dry-run")
        assert ran.code == 0
        assert "2 of 2 BatchNorm folded (dry run: nothing was written)" in ran.out
    assert shell.names == before
