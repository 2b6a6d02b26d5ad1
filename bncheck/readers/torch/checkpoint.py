"""Finds the models in what a pickle holds: a state_dict, a module, or a dictionary with several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.model import Content, Model
from bncheck.readers.build import Origin, from_module, from_state_dict
from bncheck.readers.limits import bounded
from bncheck.readers.source import Source
from bncheck.readers.torch import hyper_parameters, optimizer, training
from bncheck.readers.torch.pickle_values import Dict, Instance, Value, attributes, mapping
from bncheck.readers.torch.pickled_module import PickledModule, is_module
from bncheck.readers.torch.storage import Storages
from bncheck.readers.torch.values import is_optimizer, parameter, parameters
from bncheck.tensor import Tensor

MAX_DEPTH = 1000  # about where Python's own pickler gives up
MAX_MEMBERS = 1000
MAX_SHOWN = 60  # characters of a name in a message
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
        "moving_var",
        "moving_variance",
        "weight_ih_l0",
        "weight_hh_l0",
        "in_proj_weight",
    ]
)
_NO_MODEL = re.compile(r"optimizer|optim(s|_|$)|scheduler|scaler|rng|criterion", re.IGNORECASE)


class Member(NamedTuple):
    """One model of a checkpoint; ``key`` is its path of keys, None for the whole pickle."""

    key: str | None
    value: Value


def models(root: Value, storages: Storages, container: str, source: Source) -> tuple[Model, ...]:
    """The models in the value of a pickle. Raises NotAModel where there is none."""
    state = training.training_state(root)
    loader = training.loader_calls_eval(root)
    size = hyper_parameters.batch_size(root)
    slots = optimizer.slots(root, storages)
    found: list[Model] = []
    for member in find_members(root, storages):
        model = _model(member, storages, Origin(container, member.key, state, loader, size, slots))
        bounded(model.layers, already=sum(len(each.layers) for each in found))
        found.append(model)
    return tuple(found)


def _model(member: Member, storages: Storages, origin: Origin) -> Model:
    if is_module(member.value):
        return from_module(PickledModule(member.value, storages), origin)
    tensors = {
        name: held.tensor
        for name, held in parameters(mapping(member.value) or {}, storages).items()
        if held and isinstance(held.tensor, Tensor)
    }
    content: Content = "checkpoint" if member.key else "state_dict"
    return from_state_dict(tensors, versions(member.value, tensors), content, origin)


def find_members(root: Value, storages: Storages) -> tuple[Member, ...]:
    """The models of a pickle in order. Raises NotAModel where there is none."""
    members = tuple(islice(_search(root, storages), MAX_MEMBERS + 1))
    if len(members) > MAX_MEMBERS:
        raise UnreadableModel(f"holds over {MAX_MEMBERS} models")
    if not members:
        raise NotAModel(f"holds no model: {_describe(root, storages)}")
    return members


class _Place(NamedTuple):
    """A value, and by which key of which other value it was reached."""

    value: Value
    key: str = ""
    parent: _Place | None = None
    depth: int = 0

    @property
    def path(self) -> str:
        keys: list[str] = []
        place: _Place | None = self
        while place is not None:
            keys.append(place.key)
            place = place.parent
        return ".".join(filter(None, reversed(keys)))


def _search(root: Value, storages: Storages) -> Iterator[Member]:
    """Each value is looked at once, from the first place that refers to it."""
    stack = [iter([_Place(root)])]
    seen: set[int] = set()
    while stack:
        place = next(stack[-1], None)
        if place is None:
            stack.pop()
        elif is_module(place.value) or is_state_dict(place.value, storages):
            yield Member(place.path or None, place.value)
        elif not is_optimizer(place.value):
            stack.append(_inside(place, seen))


def _inside(place: _Place, seen: set[int]) -> Iterator[_Place]:
    """What a value holds that may hold more, and was not seen yet."""
    if place.depth == MAX_DEPTH:
        raise UnreadableModel(f"is nested over {MAX_DEPTH} deep")
    for key, value in _entries(place.value):
        if id(value) in seen or not isinstance(value, Dict | Instance | list | tuple):
            continue
        if isinstance(key, str | int) and not _NO_MODEL.search(str(key)):
            seen.add(id(value))
            yield _Place(value, str(key), place, place.depth + 1)


def _entries(value: Value) -> Iterator[tuple[Value, Value]]:
    """What a value holds by name, or by number; by "" where that is the very same thing."""
    if isinstance(value, Instance):
        yield "", value.args
        yield from _state(value)
        yield from enumerate(value.elements)
    if isinstance(value, Dict | Instance):
        yield from value.pairs
    if isinstance(value, list | tuple):
        yield from enumerate(value)


def _state(value: Instance) -> list[tuple[str, Value]]:
    if isinstance(value.state, tuple) and len(value.state) <= 2:  # __dict__ and slots
        return [("", part) for part in value.state]
    return [("", value.state)]


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


def versions(value: Value, names: Iterable[str]) -> Mapping[str, int]:
    """The class versions that ``_metadata`` gives for the prefixes of these names."""
    metadata = mapping(attributes(value).get("_metadata"))
    if not metadata:
        return {}
    prefixes = {name.rpartition(".")[0] for name in names}
    found = {prefix: (mapping(metadata.get(prefix)) or {}).get("version") for prefix in prefixes}
    return {prefix: number for prefix, number in found.items() if type(number) is int}


def _describe(root: Value, storages: Storages) -> str:
    if is_optimizer(root):
        return "it is the state of an optimizer"
    if parameter(root, storages):
        return "it is a single tensor"
    if isinstance(root, Instance) and root.class_path:
        return f"it is a pickled {root.class_path}"
    held = mapping(root)
    if held:
        names = ", ".join(repr(name[:MAX_SHOWN]) for name in [*held][:4])
        return f"it is a dictionary with {names}" + (", ..." if len(held) > 4 else "")
    return "it is nothing" if root is None else f"it is a pickled {type(root).__name__.lower()}"
