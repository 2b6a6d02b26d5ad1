"""Random modules and their folds, which are compared in float64 apart from bncheck's own proof."""

from __future__ import annotations

import os
from typing import Any

import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from random_torch import SHAPE, Drawn, modules  # noqa: E402
from torch_nets import randomised  # noqa: E402

from bncheck.folding import fold  # noqa: E402
from bncheck.folding.reasons import Reason  # noqa: E402

EXAMPLES = int(os.environ.get("BNCHECK_EXAMPLES", "120"))
SMALL = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[*HealthCheck])
CLOSE = 1e-9  # of the largest value: a random network may take differences of large ones


pytestmark = pytest.mark.usefixtures("one_thread")


def run(model: Any, seed: int) -> list[Any]:
    data = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return [*model(data)]


@SMALL
@given(modules(), st.booleans(), st.integers(0, 9))
def test_a_fold_changes_no_output(model: Drawn, has_inputs: bool, seed: int) -> None:
    randomised(model, seed).double()
    inputs = torch.randn(SHAPE).double() if has_inputs else None
    result = fold(model, inputs=inputs, verify=False)
    for before, after in zip(run(model, seed), run(result.model, seed), strict=True):
        assert (before - after).abs().max() <= CLOSE * before.abs().max()
    layers = {name for name, each in model.named_modules() if hasattr(each, "running_var")}
    told = [each.layer for each in (*result.folded, *result.kept)]
    assert sorted(told) == sorted(layers)
    assert {each.reason for each in result.kept} <= {*Reason}


@settings(SMALL, max_examples=EXAMPLES // 5)
@given(modules(), st.integers(0, 9))
def test_a_right_fold_is_proved(model: Drawn, seed: int) -> None:
    result = fold(randomised(model, seed).float(), inputs=torch.randn(SHAPE))
    assert result.verification is None or result.verification.passed
