"""What bncheck.fold gives for a module: proof, or one clear line and an untouched original."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch_nets import IMAGE, Residual, randomised  # noqa: E402

import bncheck  # noqa: E402
from bncheck.errors import BncheckError, CannotFold  # noqa: E402
from bncheck.folding.torch import decisions  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def block() -> Any:
    torch.manual_seed(0)
    return randomised(Residual())


def held(model: Any) -> dict[str, Any]:
    """Every module and tensor by name: what must be the same objects with the same numbers."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {**dict(model.named_modules()), **tensors}


def is_untouched(model: Any, objects: dict[str, Any], state: Mapping[str, Any]) -> bool:
    now = held(model)
    same = objects.keys() == now.keys() and all(now[name] is each for name, each in objects.items())
    return same and all(torch.equal(each, state[name]) for name, each in model.state_dict().items())


def wrong(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    make = decisions.new_parameters
    monkeypatch.setattr(
        decisions,
        "new_parameters",
        lambda *given: {role: factor * each for role, each in make(*given).items()},
    )


def test_the_readme_example() -> None:
    model = block()
    result = bncheck.fold(model, inputs=torch.randn(IMAGE))
    assert isinstance(result.model, Residual)
    assert isinstance(result.model.bn1, nn.Identity)
    assert isinstance(model.bn1, nn.BatchNorm2d)
    assert [each.layer for each in result.folded] == ["bn1", "bn2"]
    assert result.folded[0].into == ("conv1",)
    assert result.max_abs_error is not None
    assert result.max_abs_error < 1e-4
    assert result.saved == {"nodes": 2, "parameters": 32}


def test_a_proof_says_what_was_compared() -> None:
    proof = bncheck.fold(block(), inputs=torch.randn(IMAGE)).verification
    assert proof is not None
    assert proof.passed
    assert proof.runs == 5  # as given, again, one sample, three larger ones, zeros
    assert proof.engine.startswith("torch ")
    assert [each.name for each in proof.outputs] == ["output"]
    assert [each.name for each in proof.sites] == ["bn1", "bn2"]
    assert all(each.bound > 0 and each.exercised for each in (*proof.outputs, *proof.sites))


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("factor", [1.01, 0.0])
def test_a_wrong_fold_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, factor: float, inplace: bool
) -> None:
    model = block()
    objects, state = held(model), copy.deepcopy(model.state_dict())
    wrong(monkeypatch, factor)
    with pytest.raises(CannotFold, match="nothing was changed") as refused:
        bncheck.fold(model, inputs=torch.randn(IMAGE), inplace=inplace)
    assert "\n" not in str(refused.value)
    assert is_untouched(model, objects, state)


def test_a_small_error_at_a_site_is_found_where_the_output_hides_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The output is a constant: only the BatchNorm itself shows the error."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Threshold(1e9, 1.0))
    wrong(monkeypatch, 1.1)
    with pytest.raises(CannotFold, match="at 1, where"):
        bncheck.fold(randomised(model), inputs=torch.randn(IMAGE))


@pytest.mark.parametrize("inplace", [False, True])
def test_training_and_gradients_are_as_they_were(inplace: bool) -> None:
    model = block()
    model.conv1.weight.requires_grad_(False)
    model.fc.train()
    result = bncheck.fold(model, inputs=torch.randn(IMAGE), inplace=inplace)
    assert (result.model is model) is inplace
    assert not result.model.conv1.weight.requires_grad
    assert result.model.conv2.weight.requires_grad
    assert result.model.fc.training
    assert not result.model.conv1.training
    assert torch.is_grad_enabled()


def test_parameters_stay_the_same_objects_in_place() -> None:
    model = block()
    optimizer = torch.optim.SGD(model.conv2.parameters(), lr=0.1)
    bncheck.fold(model, inputs=torch.randn(IMAGE), inplace=True)
    assert optimizer.param_groups[0]["params"][0] is model.conv2.weight


def test_random_numbers_go_on_as_if_nothing_had_been_folded() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    bncheck.fold(block())
    torch.manual_seed(3)
    model = block()
    torch.manual_seed(3)
    bncheck.fold(model)
    assert torch.equal(torch.rand(1), expected)


def test_a_folded_model_is_saved_and_loaded(tmp_path: Any) -> None:
    model = block()
    folded = bncheck.fold(model).model
    torch.save(folded.state_dict(), tmp_path / "folded.pt")
    other = bncheck.fold(block(), verify=False).model
    other.load_state_dict(torch.load(tmp_path / "folded.pt"))
    data = torch.randn(IMAGE)
    torch.testing.assert_close(other(data), model(data), rtol=1e-4, atol=1e-4)


HALF = {torch.float16: 2e-2, torch.bfloat16: 2e-1}


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_rounded_once(dtype: Any) -> None:
    model = block()
    expected = model(torch.ones(IMAGE))
    model = copy.deepcopy(model).to(dtype)
    result = bncheck.fold(model, inputs=torch.randn(IMAGE).to(dtype))
    assert len(result.folded) == 2
    assert {each.dtype for each in result.model.parameters()} == {dtype}
    made = result.model(torch.ones(IMAGE).to(dtype)).float()
    assert (made - expected).abs().max() < HALF[dtype] * expected.abs().max()


def test_numbers_that_do_not_fit_half_precision_stay() -> None:
    model = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).half()
    model[1].running_var.fill_(1e-7)
    model[1].weight.data.fill_(6e4)
    result = bncheck.fold(model, inputs=torch.randn(IMAGE).half(), verify=False)
    assert [each.reason for each in result.kept] == ["precision"]


@pytest.mark.parametrize("inplace", [False, True])
def test_a_wrapper_stays_around_what_it_holds(inplace: bool) -> None:
    model = nn.DataParallel(block())
    result = bncheck.fold(model, inplace=inplace)
    assert type(result.model) is nn.DataParallel
    assert (result.model is model) is inplace
    assert [each.layer for each in result.folded] == ["module.bn1", "module.bn2"]
    assert result.folded[0].into == ("module.conv1",)


WRONG: dict[str, tuple[Mapping[str, Any], str]] = {
    "too many": ({"inputs": (torch.ones(IMAGE), 1)}, "do not fit"),
    "unknown name": ({"inputs": {"y": torch.ones(IMAGE)}}, "do not fit"),
    "channels": ({"inputs": torch.ones(2, 5, 8, 8)}, "does not run on the inputs"),
    "rank": ({"inputs": torch.ones(3)}, "does not run on the inputs"),
    "dtype": ({"inputs": torch.ones(IMAGE).double()}, "does not run on the inputs"),
    "no tensor": ({"inputs": "x"}, "does not run on the inputs"),
    "tolerance": ({"tolerance": -1.0}, "0 or more"),
    "no tolerance": ({"inputs": torch.randn(IMAGE), "tolerance": 0.0}, "where 0 is allowed"),
    "scale alone": ({"scale_only": True}, "for files"),
    "an output": ({"output": "folded.pt2"}, "folded into a module"),
}


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments(given: Mapping[str, Any], message: str) -> None:
    model = block()
    objects, state = held(model), copy.deepcopy(model.state_dict())
    with pytest.raises(CannotFold, match=message) as refused:
        bncheck.fold(model, **{"inplace": True, **given})
    assert "\n" not in str(refused.value)
    assert is_untouched(model, objects, state)


@pytest.mark.parametrize("target", [3, None, {"a": 1}, torch.ones(2), nn.Conv2d, block])
def test_what_is_no_model(target: Any) -> None:
    with pytest.raises(BncheckError, match="cannot be folded"):
        bncheck.fold(target)


def test_a_file_is_not_folded_in_place() -> None:
    with pytest.raises(CannotFold, match="into another"):
        bncheck.fold("model.pt2", "model.pt2", inplace=True)


def test_inputs_that_no_layer_tells_are_asked_for() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.conv = nn.Embedding(9, 4), nn.Conv1d(4, 3, 1)
            self.bn = nn.BatchNorm1d(3)

        def forward(self, x: Any) -> Any:
            return self.bn(self.conv(self.table(x).transpose(1, 2)))

    model = randomised(Embedded())
    with pytest.raises(CannotFold, match="give inputs="):
        bncheck.fold(model)
    assert len(bncheck.fold(model, inputs=torch.arange(9)[None]).folded) == 1
