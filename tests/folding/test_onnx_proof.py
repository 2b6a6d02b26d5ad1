"""What passes the comparison, and what does not: a right fold always, a wrong one never."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import numpy_helper  # noqa: E402
from onnx_models import model  # noqa: E402

import bncheck  # noqa: E402
from bncheck.folding.onnx import engines  # noqa: E402

LAYERS = 30
Spoil = Callable[[Any], None]


def deep(layers: int = LAYERS) -> Any:
    """A network in which the roundings of the first layers reach the size of the last values."""
    shapes = {f"w{i}": (8, 8, 3, 3) for i in range(layers)}
    body = "c = Conv(x, v)\nr0 = BN8(c)\n"
    for i in range(layers):
        body += f"c{i} = Conv<pads = [1, 1, 1, 1]>(r{i}, w{i})\nb{i} = BN8(c{i})\n"
        body += f"s{i} = Sin(b{i})\nr{i + 1} = Mul(s{i}, k)\n"
    return model(
        f"{body}y = Identity(r{layers})",
        {**shapes, "v": (8, 3, 1, 1)},
        values={"k": np.float32(3)},
    )


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("deep")
    before, after = folder / "before.onnx", folder / "after.onnx"
    onnx.save(deep(), before)
    result = bncheck.fold(before, after)
    assert len(result.folded) == LAYERS + 1
    assert result.verification is not None
    assert len(result.verification.sites) > LAYERS
    return before, after


def test_a_network_that_amplifies_rounding_is_folded(folded: tuple[Path, Path]) -> None:
    assert bncheck.verify(*folded).passed


def tensor(made: Any, name: str) -> Any:
    return next(each for each in made.graph.initializer if each.name == name)


def change(made: Any, name: str, edit: Callable[[Any], None]) -> None:
    array = numpy_helper.to_array(tensor(made, name)).copy()
    edit(array)
    tensor(made, name).CopyFrom(numpy_helper.from_array(array, name))


def bias_of(made: Any, number: int) -> str:
    node = next(n for n in made.graph.node if f"w{number}" in n.input)
    return str(node.input[2])


def scaled(array: Any) -> None:
    array[5] *= 1.001


def swapped(array: Any) -> None:
    array[[1, 2]] = array[[2, 1]]


def zeroed(array: Any) -> None:
    array[3] = 0


WRONG: dict[str, Spoil] = {
    "one channel's scale, first layer": lambda m: change(m, "w0", scaled),
    "one channel's scale, middle": lambda m: change(m, "w14", scaled),
    "one channel's scale, last layer": lambda m: change(m, f"w{LAYERS - 1}", scaled),
    "one channel's shift is missing": lambda m: change(m, bias_of(m, 20), zeroed),
    "one channel's shift is a little off": lambda m: change(m, bias_of(m, 20), scaled),
    "two channels swapped": lambda m: change(m, "w25", swapped),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_fold_does_not_pass(name: str, folded: tuple[Path, Path], tmp_path: Path) -> None:
    made = onnx.load(folded[1])
    WRONG[name](made)
    onnx.save(made, tmp_path / "wrong.onnx")
    assert not bncheck.verify(folded[0], tmp_path / "wrong.onnx").passed


def test_a_constant_that_is_added_up_many_times(tmp_path: Path) -> None:
    """An input of zeros makes one number of 4096: its roundings do not cancel in the mean."""
    made = model(
        "c = Conv(x, w, b)\np = GlobalAveragePool(c)\nf = Flatten(p)\ny = BN4(f)",
        {"w": (4, 3, 1, 1), "b": (4,)},
        inputs="float[1,3,64,64] x",
        rank=2,
    )
    onnx.save(made, tmp_path / "in.onnx")
    assert bncheck.fold(tmp_path / "in.onnx", tmp_path / "out.onnx").verification is not None


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


def small(path: Path) -> Path:
    onnx.save(model("c = Conv(x, w)\ny = BN4(c)", {"w": (4, 3, 3, 3)}), path)
    return path


def test_the_reference_evaluator_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "onnxruntime")
    result = bncheck.fold(small(tmp_path / "in.onnx"), tmp_path / "out.onnx")
    assert result.verification is not None
    assert "reference" in result.verification.engine
    assert result.verification.sites


def test_the_reference_finds_a_wrong_fold_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small(tmp_path / "in.onnx")
    bncheck.fold(source, tmp_path / "out.onnx")
    made = onnx.load(tmp_path / "out.onnx")
    change(made, "w", lambda array: array[1].__imul__(1.001))
    onnx.save(made, tmp_path / "wrong.onnx")
    without(monkeypatch, "onnxruntime")
    assert bncheck.verify(source, tmp_path / "out.onnx").passed
    assert not bncheck.verify(source, tmp_path / "wrong.onnx").passed


def test_a_large_model_is_not_for_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "onnxruntime")
    monkeypatch.setattr(engines, "MOST_PRODUCTS", 10)
    with pytest.raises(bncheck.CannotFold, match=r"pip install 'bncheck\[onnx\]'.*--no-verify"):
        bncheck.fold(small(tmp_path / "in.onnx"), tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_without_anything_that_runs_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small(tmp_path / "in.onnx")
    without(monkeypatch, "onnxruntime", "onnx", "onnx.reference")
    with pytest.raises(bncheck.CannotFold, match="--no-verify"):
        bncheck.fold(source, tmp_path / "out.onnx")
    assert len(bncheck.fold(source, tmp_path / "out.onnx", verify=False).folded) == 1


def test_random_inputs_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    onnx.save(model("e = Gather(t, i)\ny = BN4(e)", {"t": (1, 4)}, inputs="int64[8] i"), path)
    with pytest.raises(bncheck.CannotFold, match="give others with --inputs"):
        bncheck.fold(path, tmp_path / "b.onnx")
