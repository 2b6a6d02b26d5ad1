"""Small torch models in which folding goes wrong elsewhere: folded right here, or kept, and why.

What a folded model computes is compared here, in float64, apart from bncheck's own verification.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch_code_traps import CODE_TRAPS, REFUSED  # noqa: E402
from torch_traps import IMAGE, TRAPS, Trap, randomised  # noqa: E402

from bncheck.errors import CannotFold  # noqa: E402
from bncheck.folding import fold  # noqa: E402

ALL = {**TRAPS, **CODE_TRAPS}
CLOSE = 1e-12


pytestmark = pytest.mark.usefixtures("one_thread")


def norms(module: Any) -> set[str]:
    """The names of the modules that have a BatchNorm's statistics, each once."""
    instance = torch.nn.modules.instancenorm._InstanceNorm
    named = module.named_modules()
    return {n for n, m in named if hasattr(m, "running_var") and not isinstance(m, instance)}


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


def state(model: Any) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    pairs = ((held.nan_to_num(9), other[name].nan_to_num(9)) for name, held in one.items())
    return one.keys() == other.keys() and all(torch.equal(*pair) for pair in pairs)


def is_finite(model: Any) -> bool:
    return all(tensor.isfinite().all() for tensor in model.state_dict().values())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("trap", ALL.values(), ids=ALL.keys())
def test_folded_right_or_kept_with_the_right_reason(trap: Trap) -> None:
    model = randomised(trap.make()).double()
    before = state(model)
    result = fold(model, inputs=torch.randn(trap.shape).double())
    assert {each.layer: each.reason for each in result.kept} == trap.kept
    assert norms(result.model) == {name for name in norms(model) if name in trap.kept}
    assert type(result.model).__qualname__ == type(model).__qualname__
    assert same(before, model.state_dict())
    assert not is_finite(model) or largest_error(model, result.model, trap.shape) < CLOSE
    if result.folded:
        assert result.verification is not None
        assert result.verification.passed


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("trap", ALL.values(), ids=ALL.keys())
def test_without_inputs_never_more_and_never_wrong(trap: Trap) -> None:
    model = randomised(trap.make()).double()
    with suppress(CannotFold):  # what cannot be traced without
        result = fold(model, verify=False)
        assert trap.kept.keys() <= {each.layer for each in result.kept}
        assert not is_finite(model) or largest_error(model, result.model, trap.shape) < CLOSE


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_one_line_that_says_why(make: Callable[[], Any], message: str) -> None:
    model = make().eval()
    with pytest.raises(CannotFold, match=message) as refused:
        fold(model, inputs=torch.randn(IMAGE))
    assert "\n" not in str(refused.value)


def test_there_are_many_traps() -> None:
    assert len(ALL) + len(REFUSED) >= 150
