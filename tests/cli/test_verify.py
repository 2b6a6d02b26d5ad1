"""bncheck verify: the same or not, of any two files that can be run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
jsonschema = pytest.importorskip("jsonschema")

from fold_schema import PROOF, TOOL  # noqa: E402
from fold_shell import CONV_BN, WEIGHTS, FoldShell  # noqa: E402
from saved_models import BATCH, script  # noqa: E402
from torch_nets import IMAGE, Residual, randomised  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def save(module: Any, folder: Path, stem: str) -> None:
    """A network in every format that can be run."""
    given = torch.randn(IMAGE)
    torch.save(module, folder / f"{stem}.pt")
    program = torch.export.export(module, (given,), dynamic_shapes=({0: BATCH},))
    torch.export.save(program, folder / f"{stem}.pt2")
    script(module, IMAGE, folder / f"{stem}.ts", "trace")
    axes = {"x": {0: "batch"}}
    torch.onnx.export(
        module,
        (given,),
        str(folder / f"{stem}.onnx"),
        dynamo=False,
        input_names=["x"],
        dynamic_axes=axes,
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    module = randomised(Residual())
    save(module, folder, "a")
    torch.save(module.state_dict(), folder / "weights.pth")
    with torch.no_grad():
        module.fc.weight[0, 0] += 0.05
    save(module, folder, "b")
    return folder


@pytest.fixture
def shell(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> FoldShell:
    monkeypatch.chdir(models)
    return FoldShell(models, capsys.readouterr)


PAIRS = [
    ("onnx", "onnx"),
    ("onnx", "ts"),
    ("pt2", "pt2"),
    ("pt2", "onnx"),
    ("ts", "pt2"),
    ("ts", "ts"),
    ("pt", "pt"),
    ("pt", "pt2"),
    ("pt", "onnx"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_the_same(shell: FoldShell, one: str, other: str) -> None:
    ran = shell(f"verify a.{one} a.{other} --trust")
    assert ran.code == 0, ran
    assert ran.out.startswith(f"a.{other}: the same\n  output")


@pytest.mark.parametrize(("one", "other"), [("onnx", "onnx"), ("onnx", "ts"), ("pt", "pt")])
def test_not_the_same(shell: FoldShell, one: str, other: str) -> None:
    ran = shell(f"verify a.{one} b.{other} --trust")
    assert ran.code == 2, ran
    assert ran.out.startswith(f"b.{other}: NOT the same\n  output")
    assert "NOT within" in ran.out


def test_what_is_printed(shell: FoldShell) -> None:
    lines = shell("verify a.onnx a.onnx").out.splitlines()
    assert lines[0] == "a.onnx: the same"
    assert "verified by" in lines[-1]
    assert max(map(len, lines)) <= 80


def test_json(shell: FoldShell) -> None:
    names = {"original": {"type": "string"}, "folded": {"type": "string"}}
    properties = {"schema_version": {"const": 1}, "tool": TOOL, **names, **PROOF}
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    for other, passed in (("a", True), ("b", False)):
        ran = shell(f"verify a.ts {other}.ts --trust --format json")
        made = json.loads(ran.out)
        jsonschema.validate(made, schema)
        assert made["passed"] is passed is (ran.code == 0)


def test_numbers_that_json_does_not_know(shell: FoldShell) -> None:
    """A fold that makes NaN of a number is off by infinitely much."""
    model = onnx.load("a.onnx")
    for held in model.graph.initializer:
        if held.name == "fc.bias":
            held.CopyFrom(onnx.numpy_helper.from_array(_nan(held), held.name))
    onnx.save(model, "nan.onnx")
    ran = shell("verify a.onnx nan.onnx --format json")
    assert ran.code == 2
    assert json.loads(ran.out)["outputs"][0]["max_abs_error"] == "Infinity"


def _nan(held: Any) -> Any:
    return onnx.numpy_helper.to_array(held) * float("nan")


def test_inputs_and_tolerance(shell: FoldShell) -> None:
    shell.npz("given.npz", x=torch.randn(IMAGE).numpy())
    assert "1 run in" in shell("verify a.ts a.onnx --trust --inputs given.npz").out
    assert shell("verify a.ts b.ts --trust --tolerance 100").code == 0
    assert shell("verify a.onnx b.onnx --tolerance 100").code == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("verify a.ts a.ts", "a.ts: to run it, torch has to load it"),
        ("verify a.onnx a.pt2", "a.pt2: to run it, torch has to load it"),
        ("verify a.pt a.onnx", "a.pt: to run it, torch has to load it"),
        ("verify weights.pth a.pt --trust", "weights.pth: holds tensors, and not what is done"),
        ("verify a.pt weights.pth --trust", "weights.pth: holds tensors, and not what is done"),
        ("verify none.onnx a.onnx", "none.onnx: does not exist"),
        ("verify a.onnx none.onnx", "none.onnx: does not exist"),
        ("verify a.ts other.npz --trust", "other.npz: "),
        ("verify a.ts a.onnx --trust --inputs other.npz", "other.npz: lacks an array 'x'"),
        ("verify a.pt2 a.ts --trust --inputs other.npz", "other.npz: lacks an array 'x'"),
        ("verify a.pt a.ts --trust --inputs other.npz", "the inputs do not fit"),
        ("verify a.ts two.onnx --trust", "the folded model does not run: it takes 2 inputs"),
    ],
)
def test_refused(shell: FoldShell, line: str, said: str) -> None:
    import onnx_models

    shell.npz("other.npz", z=torch.randn(IMAGE).numpy())
    inputs = "float[n,3,h,w] x, float[n,4,h,w] z"
    body = CONV_BN.replace("y =", "s =") + "\ny = Add(s, s)\nq = Identity(z)"
    onnx.save(onnx_models.model(body, WEIGHTS, inputs=inputs), "two.onnx")
    assert said in shell.fails(line)
