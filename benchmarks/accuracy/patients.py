"""Healthy networks that defects are planted in: their BatchNorms, and what stands before each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .corpus import network

LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.PReLU, nn.Sigmoid)
SMALL = (
    "mlp",
    "squeezed",
    "unet",
    "autoencoder",
    "residual mlp",
    "resnet20_cifar10",
    "siamese",
    "convmixer",
    "temporal",
    "feature pyramid",
    "discriminator",
    "super resolution",
    "repvgg",
    "mobileone",
    "recurrent",
    "dcgan",
    "gated",
    "pointnet",
    "conv3d",
    "metric",
    "conformer",
    "wide and deep",
    "mobilenetv2_wd4",
)
DEEPER = (  # for defects that few of the small ones can have
    "mobilenet_wd4",
    "preresnet20_cifar10",
    "seresnet20_cifar10",
    "diaresnet20_cifar10",
    "fdmobilenet_wd4",
    "resnet18_wd4",
    "densenet40_k12_cifar10",
    "shufflenetv2_wd2",
    "resnet10",
    "rir_cifar10",
    "mnasnet_small",
    "mobilenetv3_small_w7d20",
    "preresnet18_wd4",
    "sepreresnet20_cifar10",
)
NETWORKS = SMALL + DEEPER


@dataclass
class Patient:
    """A network of its own to break, and arguments of a call."""

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    data: tuple[Tensor, ...]

    def part(self, name: str) -> Any:
        """A module by its qualified name."""
        return self.module.get_submodule(name)

    def put(self, name: str, part: nn.Module) -> None:
        """Another module in the place of one."""
        parent, _, last = name.rpartition(".")
        setattr(self.module.get_submodule(parent), last, part)

    def norms(self) -> list[str]:
        """The names of the BatchNorms that the forward pass calls, in order."""
        seen = list(dict.fromkeys(call.name for call in self.calls()))
        return [name for name in seen if isinstance(self.part(name), _BatchNorm)]

    def calls(self) -> list[Call]:
        """What a forward pass calls, in order."""
        with _watched(self.module) as calls, torch.no_grad():
            self.module(*self.data)
        return calls

    def pairs(self) -> dict[str, str]:
        """For a BatchNorm the linear module whose output it takes, where nothing else does.

        Only of those that run once. Of the network as it was before anything was planted.
        """
        return dict(_pairs_of(self.name))


@dataclass
class Call:
    """One call of a module without children; tensors are kept, so that an id stays one's own."""

    name: str
    module: nn.Module
    given: Tensor
    made: Tensor


def patient(name: str) -> Patient:
    """A fresh copy of a network."""
    healthy = _healthy(name)
    return Patient(name, copy.deepcopy(healthy.module), healthy.inputs, healthy.data)


@cache
def _healthy(name: str) -> Any:
    return network(name)


@contextmanager
def _watched(module: nn.Module) -> Iterator[list[Call]]:
    calls: list[Call] = []

    def seen(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, given: tuple[Any, ...], made: Any) -> None:
            if given and isinstance(given[0], Tensor) and isinstance(made, Tensor):
                calls.append(Call(name, part, given[0], made))

        return hook

    leaves = [(name, part) for name, part in module.named_modules() if not list(part.children())]
    hooks = [part.register_forward_hook(seen(name)) for name, part in leaves]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@cache
def _pairs_of(name: str) -> dict[str, str]:
    whole = patient(name)
    return {norm: linear for norm, linear in _pairs(whole) if _is_alone(whole, norm, linear)}


def _pairs(patient: Patient) -> Iterator[tuple[str, str]]:
    calls = patient.calls()
    names = [call.name for call in calls]
    for call in calls:
        if not isinstance(call.module, _BatchNorm) or names.count(call.name) > 1:
            continue
        before = [each for each in calls if each.made is call.given]
        if len(before) == 1 and _is_linear(before[0], call, names):
            yield call.name, before[0].name


@torch.no_grad()
def _is_alone(patient: Patient, norm: str, linear: str) -> bool:
    """Whether what a linear module makes matters no more once the BatchNorm's output is fixed."""
    kept: list[Tensor] = []
    watch = patient.part(norm).register_forward_hook(lambda *call: kept.append(call[2].clone()))
    before = outputs(patient)
    watch.remove()
    hooks = (
        patient.part(linear).register_forward_hook(lambda *call: call[2] + 1),
        patient.part(norm).register_forward_hook(lambda *call: kept[0]),
    )
    after = outputs(patient)
    for hook in hooks:
        hook.remove()
    return all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def outputs(patient: Patient) -> list[Tensor]:
    """What the network makes of the data, every tensor of it."""
    made = patient.module(*patient.data)
    return [made] if isinstance(made, Tensor) else [*made]


def _is_linear(before: Call, norm: Call, names: Sequence[str]) -> bool:
    """Whether it is linear, runs once, and makes the channels that are normalized."""
    fits = isinstance(before.module, LINEAR) and names.count(before.name) == 1
    return fits and (not isinstance(before.module, nn.Linear) or norm.given.dim() == 2)


def activated(patient: Patient) -> set[str]:
    """The BatchNorms whose output goes through an activation and nowhere else."""
    calls = patient.calls()
    found = set()
    for call in calls:
        readers = [each for each in calls if each.given is call.made]
        activations = [each for each in readers[:1] if isinstance(each.module, ACTIVATIONS)]
        if activations and (len(readers) == 1 or activations[0].made is call.made):  # in place
            found.add(call.name)
    return found
