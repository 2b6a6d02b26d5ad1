"""Tracing leaves no mark: neither on the module, nor on anything around it."""

from __future__ import annotations

import random
from typing import Any

import pytest

import bncheck

torch = pytest.importorskip("torch")
nn = torch.nn


class Stateful(nn.Module):  # type: ignore[misc]
    """Changes all that a forward can change, and takes random numbers from everywhere."""

    def __init__(self, decides_by: str) -> None:
        super().__init__()
        self.decides_by = decides_by
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.drop = nn.Dropout()
        self.register_buffer("average", torch.zeros(4))
        self.old = nn.utils.spectral_norm(nn.Linear(4, 4))
        self.older = nn.utils.weight_norm(nn.Linear(4, 4))
        self.new = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.seen: list[int] = []
        self.count, self.last = 0, None
        self.layers = [self.conv]  # registered, and in a list of its own

    def forward(self, x: Any) -> Any:
        self.seen.append(1)
        self.count += 1
        self.last = x
        random.random()
        torch.rand(1)
        self.average.mul_(0.9)
        y = self.drop(self.bn(self.layers[0](x))).mean((2, 3))
        self.average = self.average + y.mean(0).detach()
        if self.decides_by == "shape" and x.shape[0] > 1:
            y = y * 2
        if self.decides_by == "values" and y.sum() > 0:
            y = y * 2
        if self.decides_by == "error":
            raise ValueError("no")
        with torch.no_grad():
            self.bn.weight.add_(1)
        return self.new(self.older(self.old(y)))


def state_of(module: Any) -> Any:
    """All that can be seen of a module and its tensors, by value and by identity."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return (
        {
            n: (t.detach().clone().tolist(), id(t), t._version, t.requires_grad)
            for n, t in tensors.items()
        },
        {
            n: (m.training, id(m), sorted(vars(m)), len(m._forward_hooks))
            for n, m in module.named_modules()
        },
        (list(module.seen), module.count, module.last, id(module.layers)),
    )


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("decides_by", ["nothing", "shape", "values", "error"])
def test_the_module_is_as_it_was(decides_by: str, training: bool, given: bool) -> None:
    module = Stateful(decides_by).train(training)
    inputs = torch.randn(3, 3, 6, 6) if given else None
    before = state_of(module)
    bncheck.check(module, inputs=inputs)
    assert state_of(module) == before


def test_random_states_are_as_they_were() -> None:
    module = Stateful("values").train()
    inputs = torch.randn(3, 3, 6, 6)
    numpy = pytest.importorskip("numpy")
    states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
    bncheck.check(module, inputs=inputs)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert numpy.random.get_state()[1].tolist() == states[2]


def test_gradients_are_as_they_were() -> None:
    module = Stateful("values")
    inputs = torch.randn(3, 3, 6, 6, requires_grad=True)
    bncheck.check(module, inputs=inputs)
    assert torch.is_grad_enabled()
    assert inputs.grad is None
    assert all(parameter.grad is None for parameter in module.parameters())


class Locked(Stateful):
    """Holds what has no copies, as trainers and process groups are."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("cannot be copied")


def test_what_has_no_copy_is_traced_but_never_run() -> None:
    inputs = torch.randn(3, 3, 6, 6)
    (model,) = bncheck.inspect(Locked("nothing"), inputs=inputs)
    assert model.graph.nodes
    module = Locked("shape")
    before = state_of(module)
    (model,) = bncheck.inspect(module, inputs=inputs)
    assert not model.knows(type(model).graph)
    assert state_of(module) == before
