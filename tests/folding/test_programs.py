"""ExportedPrograms folded before they are quantized or lowered: the same numbers, and no trace."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.export import Dim, export  # noqa: E402
from torch_nets import IMAGE, NETS, Residual, net, randomised  # noqa: E402

from bncheck.errors import CannotFold  # noqa: E402
from bncheck.folding import fold  # noqa: E402

CLOSE = 1e-12
Change = Callable[[Any], Any]
FORMS: dict[str, Change] = {
    "training operators": lambda program: program,
    "core operators": lambda program: program.run_decompositions(),
}


pytestmark = pytest.mark.usefixtures("one_thread")


def run(program: Any, *data: Any) -> Any:
    with torch.no_grad():
        return program.module()(*data)


def error(program: Any, folded: Any, *data: Any) -> float:
    expected, found = run(program, *data), run(folded, *data)
    return float((expected - found).abs().max() / expected.abs().max())


def residual(**options: Any) -> tuple[Any, Any]:
    """A residual block as a program, and what it was exported with."""
    torch.manual_seed(0)
    data = torch.randn(IMAGE).double()
    return export(randomised(Residual()).double(), (data,), **options), data


def unread(program: Any) -> list[str]:
    """Stored tensors that nothing reads; a counter is read by none from the start."""
    names = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    dead = [names[node.name] or "" for node in placeholders if not node.users]
    return [name for name in dead if not name.endswith("num_batches_tracked")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETS)
def test_a_program_is_folded(name: str, form: str) -> None:
    model, data = net(name)
    program = FORMS[form](export(model.double(), (data.double(),)))
    before = {key: held.clone() for key, held in program.state_dict.items()}
    code = str(program.graph)
    result = fold(program)
    _, _, folded, kept = NETS[name]
    assert (len(result.folded), len(result.kept)) == (folded, kept)
    assert error(program, result.model, data.double()) < CLOSE
    assert result.verification is None if not folded else result.verification.passed
    assert {*unread(result.model)} <= {*unread(program)}
    held = {key for key in result.model.state_dict if key.rpartition(".")[2] == "running_var"}
    assert len(held) == kept
    assert code == str(program.graph)
    assert all(torch.equal(held, program.state_dict[key]) for key, held in before.items())


def _saved(program: Any) -> Any:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    return torch.export.load(buffer)


AFTERWARDS: Mapping[str, Change] = {
    "saved and loaded": _saved,
    "decomposed": lambda program: program.run_decompositions(),
    "exported again": lambda program: export(program.module(), (torch.randn(IMAGE).double(),)),
    "folded again": lambda program: fold(program).model,
}


@pytest.mark.parametrize("name", AFTERWARDS)
def test_a_folded_program_is_one_like_any_other(name: str) -> None:
    program, data = residual()
    assert error(program, AFTERWARDS[name](fold(program).model), data) < CLOSE


BATCH = ({0: Dim("batch", min=1)},)
ALL_AXES = ({0: Dim("batch", min=1), 2: Dim("height", min=4), 3: Dim("width", min=4)},)


@pytest.mark.parametrize(("dims", "shape"), [(BATCH, (7, 3, 8, 8)), (ALL_AXES, (1, 3, 9, 12))])
def test_sizes_that_vary_still_do(dims: Any, shape: tuple[int, ...]) -> None:
    program, _ = residual(dynamic_shapes=dims)
    result = fold(program)
    assert not result.kept
    assert error(program, result.model, torch.randn(shape).double()) < CLOSE
    assert result.verification is not None
    assert result.verification.runs > 3  # other batch sizes were tried as well


def test_a_strict_export_leaves_no_counter() -> None:
    program, data = residual(strict=True)
    folded = fold(program).model
    assert error(program, folded, data) < CLOSE
    assert not [name for name in folded.state_dict if name.startswith("bn")]


def test_training_mode_stays() -> None:
    data = torch.randn(IMAGE)
    result = fold(export(Residual().train(), (data,)))
    assert {kept.reason for kept in result.kept} == {"training"}
    assert not result.folded


def test_a_buffer_that_is_read_elsewhere_stays_as_it_is() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Any) -> Any:
            return self.bn(self.conv(x)) + self.bn.running_var.sum()

    data = torch.randn(IMAGE).double()
    program = export(randomised(Reads()).double(), (data,))
    result = fold(program)
    assert [folded.layer for folded in result.folded] == ["bn"]
    assert "bn.running_var" in result.model.state_dict
    assert error(program, result.model, data) < CLOSE


def test_one_layer_called_twice_is_folded_once_into_one_weight() -> None:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

        def forward(self, x: Any) -> Any:
            return self.inner(x) - self.inner(x.flip(3))

    data = torch.randn(IMAGE).double()
    program = export(randomised(Siamese()).double(), (data,))
    result = fold(program)
    assert [folded.layer for folded in result.folded] == ["inner.1"]
    assert [*result.model.state_dict] == ["inner.0.weight", "inner.0.bias"]
    assert error(program, result.model, data) < CLOSE


class Conditional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Any) -> Any:
        y = self.bn(self.conv(x))
        return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (y,))


def test_control_flow_is_carried_over() -> None:
    data = torch.randn(IMAGE).double()
    program = export(randomised(Conditional()).double(), (data,))
    result = fold(program)
    assert len(result.folded) == 1
    for given in (data.abs(), -data.abs()):
        assert error(program, result.model, given) < CLOSE


@pytest.mark.parametrize(
    "inputs", [torch.randn(IMAGE), (torch.randn(IMAGE),), {"x": torch.randn(IMAGE)}]
)
def test_inputs_are_a_tensor_a_tuple_or_a_mapping(inputs: Any) -> None:
    program = export(randomised(Residual()), (torch.randn(IMAGE),))
    assert len(fold(program, inputs=inputs).folded) == 2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((torch.randn(IMAGE), 3), r"the program takes 1 \(x\), 2 are given"),
        (torch.randn(2, 5, 8, 8), "does not run on the inputs"),
        ({"y": torch.randn(IMAGE)}, "does not run on the inputs"),
    ],
)
def test_inputs_that_do_not_fit(inputs: Any, message: str) -> None:
    program = export(randomised(Residual()), (torch.randn(IMAGE),))
    with pytest.raises(CannotFold, match=message):
        fold(program, inputs=inputs)


def test_a_program_is_not_folded_in_place() -> None:
    program, _ = residual()
    with pytest.raises(CannotFold, match="into a new one"):
        fold(program, inplace=True)


def test_a_wrong_fold_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from bncheck.folding.numbers import Numbers

    program, _ = residual()
    make = Numbers._arrays
    monkeypatch.setattr(
        Numbers,
        "_arrays",
        lambda self, node: {role: 1.01 * held for role, held in make(self, node).items()},
    )
    with pytest.raises(CannotFold, match="differs by"):
        fold(program)
