"""Large weights are made some rows at a time: the same numbers as at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import numpy_helper  # noqa: E402
from onnx_models import model  # noqa: E402

import bncheck  # noqa: E402
from bncheck.folding.onnx import large  # noqa: E402

FLAT = "float[5,6] x"
CASES: dict[str, dict[str, Any]] = {
    "conv": {"body": "c = Conv(x, w)\ny = BN4(c)", "shapes": {"w": (4, 3, 3, 3)}},
    "conv, before and after": {
        "body": "a = BN3(x)\nc = Conv(a, w, b)\ny = BN4(c)",
        "shapes": {"w": (4, 3, 3, 3), "b": (4,)},
    },
    "grouped, at once": {
        "body": "a = BN4(x)\ny = Conv<group = 2>(a, w)",
        "shapes": {"w": (4, 2, 3, 3)},
        "inputs": "float[2,4,8,8] x",
    },
    "rows are inputs": {
        "body": "a = BN6(x)\nc = Gemm<alpha = 0.5, beta = 2.0>(a, w, b)\ny = BN4(c)",
        "shapes": {"w": (6, 4), "b": (4,)},
        "inputs": FLAT,
        "rank": 2,
    },
    "rows are outputs": {
        "body": "a = BN6(x)\nc = Gemm<transB = 1>(a, w, b)\ny = BN4(c)",
        "shapes": {"w": (4, 6), "b": (1,)},
        "inputs": FLAT,
        "rank": 2,
    },
    "a matrix of biases": {
        "body": "c = Gemm<transB = 1>(x, w, b)\ny = BN4(c)",
        "shapes": {"w": (4, 6), "b": (5, 4)},
        "inputs": FLAT,
        "rank": 2,
    },
    "a product without a bias": {
        "body": "c = MatMul(x, w)\ny = BN4(c)",
        "shapes": {"w": (6, 4)},
        "inputs": FLAT,
        "rank": 2,
    },
}


def folded(case: dict[str, Any], folder: Path, *, external: bool = False) -> dict[str, Any]:
    made = model(**case)
    onnx.save(made, folder / "in.onnx", save_as_external_data=external, size_threshold=0)
    result = bncheck.fold(folder / "in.onnx", folder / "out.onnx", verify=False)
    assert result.folded
    held = onnx.load(folder / "out.onnx").graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in held}


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_parts_make_the_whole(
    name: str, external: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = folded(CASES[name], tmp_path)
    monkeypatch.setattr(large, "LARGE", 2)
    monkeypatch.setattr(large, "AT_ONCE", 8)
    parts = folded(CASES[name], tmp_path, external=external)
    assert parts.keys() == whole.keys()
    for key, array in whole.items():
        np.testing.assert_allclose(parts[key], array, rtol=1e-6, atol=1e-7)


def test_a_number_that_does_not_fit_is_found_in_any_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "LARGE", 2)
    monkeypatch.setattr(large, "AT_ONCE", 8)
    weight = np.ones((4, 3, 3, 3), np.float16)
    weight[3] = 60000
    one, zero = np.ones(4, np.float16), np.zeros(4, np.float16)
    made = model(
        "c = Conv(x, w)\ny = BatchNormalization(c, s, z, z, o)",
        inputs="float16[2,3,8,8] x",
        outputs="float16[a,b,c,d] y",
        values={"w": weight, "s": 2 * one, "z": zero, "o": one},
    )
    onnx.save(made, tmp_path / "in.onnx")
    result = bncheck.fold(tmp_path / "in.onnx", tmp_path / "out.onnx", verify=False)
    assert [each.reason for each in result.kept] == ["precision"]
    assert (tmp_path / "out.onnx").read_bytes()
