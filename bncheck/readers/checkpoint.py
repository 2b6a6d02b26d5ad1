"""Finds the models in what a pickle holds: a state_dict, a module, or a dictionary with several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bncheck.errors import NotAModel
from bncheck.model import Model
from bncheck.readers import training
from bncheck.readers.build import Origin, from_module, from_state_dict
from bncheck.readers.pickle_machine import Instance, Value
from bncheck.readers.pickled_module import PickledModule, is_module
from bncheck.readers.source import Source
from bncheck.readers.torch_values import (
    Storages,
    attributes,
    is_optimizer,
    mapping,
    parameter,
    parameters,
)

MAX_DEPTH = 8
MAX_VISITS = 100_000
_LEAVES = frozenset(
    [
        "weight",
        "bias",
        "gamma",
        "beta",
        "running_mean",
        "running_var",
        "num_batches_tracked",
        "moving_mean",
        "moving_variance",
        "weight_ih_l0",
        "weight_hh_l0",
        "in_proj_weight",
    ]
)
_NO_MODEL = re.compile(r"optim|scheduler|scaler|rng|criterion", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Member:
    """One model of a checkpoint; ``key`` is its path of keys, None for the whole pickle."""

    key: str | None
    value: Value


def models(root: Value, storages: Storages, container: str, source: Source) -> tuple[Model, ...]:
    """The models in the value of a pickle. Raises NotAModel where there is none."""
    state = training.training_state(root)
    loader = training.loader_calls_eval(root)
    size = training.batch_size(root)
    return tuple(
        _model(member, storages, Origin(container, member.key, state, loader, size))
        for member in find_members(root, storages)
    )


def _model(member: Member, storages: Storages, origin: Origin) -> Model:
    if is_module(member.value):
        return from_module(PickledModule(member.value, storages), origin)
    tensors = parameters(mapping(member.value) or {}, storages)
    return from_state_dict(
        {name: p.tensor for name, p in tensors.items() if p},
        versions(member.value),
        "checkpoint" if member.key else "state_dict",
        origin,
    )


def find_members(root: Value, storages: Storages) -> tuple[Member, ...]:
    """The models of a pickle in order. Raises NotAModel where there is none."""
    members = tuple(_search(root, storages))
    if not members:
        raise NotAModel(f"holds no model: {_describe(root, storages)}")
    return members


def _search(root: Value, storages: Storages) -> Iterator[Member]:
    stack: list[tuple[tuple[str, ...], Value]] = [((), root)]
    seen: set[int] = set()
    for _ in range(MAX_VISITS):
        if not stack:
            return
        path, value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if is_module(value) or is_state_dict(value, storages):
            yield Member(".".join(path) or None, value)
        elif len(path) < MAX_DEPTH and not is_optimizer(value):
            stack.extend(((*path, key), held) for key, held in _inside(value))


def _inside(value: Value) -> list[tuple[str, Value]]:
    """What to look into, last first."""
    if isinstance(value, list | tuple):
        named = [(str(index), held) for index, held in enumerate(value)]
    else:
        named = list({**attributes(value), **(mapping(value) or {})}.items())
    return [(name, held) for name, held in reversed(named) if not _NO_MODEL.search(name)]


def is_state_dict(value: Value, storages: Storages) -> bool:
    """Whether a dictionary maps names of parameters to tensors."""
    held = mapping(value)
    if not held:
        return False
    if "_metadata" in attributes(value):
        return True
    tensors = [name for name, each in held.items() if parameter(each, storages)]
    named = any("." in name or name in _LEAVES for name in tensors)
    return named and 2 * len(tensors) >= len(held)


def versions(value: Value) -> Mapping[str, int]:
    """The class versions of ``_metadata``, by prefix."""
    metadata = mapping(attributes(value).get("_metadata")) or {}
    found = {name: (mapping(each) or {}).get("version") for name, each in metadata.items()}
    return {name: number for name, number in found.items() if type(number) is int}


def _describe(root: Value, storages: Storages) -> str:
    if is_optimizer(root):
        return "it is the state of an optimizer"
    if parameter(root, storages):
        return "it is a single tensor"
    if isinstance(root, Instance) and root.class_path:
        return f"it is a pickled {root.class_path}"
    held = mapping(root)
    if held:
        names = ", ".join([*map(repr, held)][:4])
        return f"it is a dictionary with {names}" + (", ..." if len(held) > 4 else "")
    return f"it is a pickled {type(root).__name__.lower()}"
