"""Small torch models in which folding goes wrong elsewhere: folded right here, or kept, and why.

What a folded model computes is compared here, in float64, apart from bncheck's own verification.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch_traps import TRAPS, Trap, randomised  # noqa: E402

from bncheck.folding import fold  # noqa: E402

NORMS = ("BatchNorm", "Frozen", "NormAct", "NormLeaky", "Renamed", "Checked")


def norms(module: Any) -> set[str]:
    """The names under which BatchNorms are left, each once."""
    named = module.named_modules()
    return {name for name, each in named if type(each).__name__.startswith(NORMS)}


def flat(made: Any) -> list[Any]:
    return [*made] if isinstance(made, tuple) else [made]


def largest_error(model: Any, folded: Any, shape: tuple[int, ...]) -> float:
    """Relative to the largest value of the original, over inputs of several sizes."""
    errors = [0.0]
    for seed, factor in enumerate((1.0, 10.0, 0.0)):
        random = torch.Generator().manual_seed(100 + seed)
        data = factor * torch.randn(shape, dtype=torch.float64, generator=random)
        with torch.no_grad():
            pairs = zip(flat(model(data.clone())), flat(folded(data.clone())), strict=True)
            for expected, found in pairs:
                scale = expected.abs().max().item() or 1.0
                errors.append((expected - found).abs().max().item() / scale)
    return max(errors)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS.keys())
def test_folded_right_or_kept_with_the_right_reason(trap: Trap) -> None:
    model = randomised(trap.make()).double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = fold(model, inputs=torch.randn(trap.shape).double())
    folded = result.model
    assert {each.layer: each.reason for each in result.kept} == trap.kept
    assert norms(folded) == {name for name in norms(model) if name in trap.kept}
    assert type(folded) is type(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(
        torch.equal(before[name].nan_to_num(9), after[name].nan_to_num(9)) for name in before
    )
    is_finite = all(tensor.isfinite().all() for tensor in before.values())
    assert not is_finite or largest_error(model, folded, trap.shape) < 1e-12
    if result.folded:
        assert result.verification is not None
        assert result.verification.passed
