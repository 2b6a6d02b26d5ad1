"""Folding changes no output of any graph, whatever it is made of."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from random_onnx import graphs  # noqa: E402

import bncheck  # noqa: E402
from bncheck.folding.reasons import Reason  # noqa: E402

EXAMPLES = int(os.environ.get("BNCHECK_EXAMPLES", "150"))


def session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds_of(made: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    shape = [d.dim_value for d in made.graph.input[0].type.tensor_type.shape.dim]
    branches = [True, False] if any(each.name == "k" for each in made.graph.input) else [None]
    x = rng.normal(0, 1, shape).astype(np.float32)
    return [{"x": x} if k is None else {"x": x, "k": np.array(k)} for k in branches]


def assert_close(folded: Any, original: Any) -> None:
    known = np.isfinite(original)
    size = np.abs(original[known]).max(initial=0.0)
    np.testing.assert_allclose(folded[known], original[known], rtol=0, atol=2e-4 * max(size, 0.01))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(graphs())
def test_a_fold_computes_the_same(made: Any) -> None:
    with TemporaryDirectory() as folder:
        before, after, again = (Path(folder) / f"{name}.onnx" for name in ("a", "b", "c"))
        onnx.save(made, before)
        try:
            original = session(before)
        except Exception:  # nothing that onnxruntime runs
            assume(False)
        result = bncheck.fold(before, after, verify=False)
        onnx.checker.check_model(str(after))
        folded = session(after)
        for feed in feeds_of(made):
            for one, other in zip(original.run(None, feed), folded.run(None, feed), strict=True):
                assert_close(other, one)
        assert all(each.reason in [*Reason] for each in result.kept)
        once_more = bncheck.fold(after, again, verify=False)
        assert not once_more.folded
        assert again.read_bytes() == after.read_bytes()
