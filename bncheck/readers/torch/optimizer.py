"""The optimizers in a checkpoint: under which weight decay each parameter of a model trains.

The state_dict of an optimizer numbers its parameters. It names them where it was made from named
parameters (torch 2.6) or gathered from shards; elsewhere the shapes of its state tell which is
which, as far as they do: what stays open is left out rather than guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown
from bncheck.model import OPTIMIZER_INSTEAD as INSTEAD
from bncheck.readers.state_dict import unwrapped
from bncheck.readers.torch.pickle_values import Dict, Instance, Value, mapping
from bncheck.readers.torch.storage import Storages
from bncheck.readers.torch.values import is_optimizer, parameter
from bncheck.tensor import Tensor

MAX_OPTIMIZERS = 100
MAX_SLOTS = 100_000
MAX_DECAY = 1e6
# State that has the shape of its parameter, in torch.optim and in what follows its names.
_LIKE_PARAMETER = (
    "momentum_buffer",
    "exp_avg",
    "exp_avg_sq",
    "exp_inf",
    "square_avg",
    "sum",
    "prev",
    "ax",
)
Shape = tuple[int, ...]


class Slot(NamedTuple):
    """One parameter of an optimizer, with the dtype of its state; None is what nothing tells."""

    weight_decay: float
    name: str | None = None
    shape: Shape | None = None
    dtype: str | None = None


def state_dicts(root: Value) -> Iterator[Value]:
    """The state_dicts of optimizers among the entries of a checkpoint, each once."""
    seen: set[int] = set()
    for value in (mapping(root) or {}).values():
        for optimizer in islice(_several(value), MAX_OPTIMIZERS):
            if is_optimizer(optimizer) and id(optimizer) not in seen:
                seen.add(id(optimizer))
                yield optimizer


def _several(value: Value) -> Iterable[Value]:
    """Optimizers in a list, as of Lightning, or by name, as of mmengine; or a single one."""
    if isinstance(value, list | tuple):
        return value
    named = {} if is_optimizer(value) else mapping(value) or {}
    return named.values() if named and all(map(is_optimizer, named.values())) else (value,)


def slots(root: Value, storages: Storages) -> tuple[Slot, ...] | Unknown:
    """The parameters of all optimizers of a checkpoint, in order."""
    found: list[Slot] = []
    for optimizer in state_dicts(root):
        held = mapping(optimizer) or {}
        states, groups = _by_key(held["state"]), held["param_groups"]
        for group in groups if isinstance(groups, list | tuple) else ():
            of_group = _group(mapping(group) or {}, states, storages, MAX_SLOTS - len(found))
            if isinstance(of_group, Unknown):
                return of_group
            found += of_group
    return tuple(found)


def _by_key(states: Value) -> dict[int | str, Value]:
    pairs = states.pairs if isinstance(states, Dict | Instance) else ()
    return {key: state for key, state in pairs if type(key) in (int, str)}


def _group(
    group: Mapping[str, Value], states: Mapping[int | str, Value], storages: Storages, limit: int
) -> list[Slot] | Unknown:
    keys, names, decay = group.get("params"), group.get("param_names"), _decay(group)
    if not isinstance(keys, list | tuple) or decay is None or len(keys) > limit:
        return Unknown("weight decay", "the optimizer's state is in a form of its own", INSTEAD)
    named = names if isinstance(names, list | tuple) and len(names) == len(keys) else keys
    return [
        Slot(decay, name if isinstance(name, str) else None, *_state(states.get(key), storages))
        for key, name in ((_key(each), name) for each, name in zip(keys, named, strict=True))
    ]


def _decay(group: Mapping[str, Value]) -> float | None:
    """None where it is no number that a weight decay can be."""
    held = group.get("weight_decay") or 0
    return float(held) if isinstance(held, int | float) and 0 <= held < MAX_DECAY else None


def _key(value: Value) -> int | str:
    return value if type(value) in (int, str) else ""


def _state(state: Value, storages: Storages) -> tuple[Shape | None, str | None]:
    """The one shape and dtype of what is kept like the parameter."""
    held = mapping(state) or {}
    like = [_tensor(held[name], storages) for name in _LIKE_PARAMETER if name in held]
    shapes = {each.shape if each else None for each in like}
    dtypes = {each.dtype if each else None for each in like}
    return shapes.pop() if len(shapes) == 1 else None, dtypes.pop() if len(dtypes) == 1 else None


def _tensor(value: Value, storages: Storages) -> Tensor | None:
    """None too for a broken one, which does not hide the model."""
    with suppress(UnreadableModel):
        held = parameter(value, storages)
        return held.tensor if held and isinstance(held.tensor, Tensor) else None
    return None


def weight_decay(slots: Sequence[Slot], parameters: Mapping[str, Shape]) -> Mapping[str, float]:
    """The decay of each parameter for which it is certain; ``parameters`` are in their order."""
    if not any(slot.weight_decay for slot in slots):
        return dict.fromkeys(parameters, 0.0)
    found = _by_name(slots, parameters) or _in_order(slots, parameters)
    return found or dict(_by_shape(slots, parameters))


def _by_name(slots: Sequence[Slot], parameters: Mapping[str, Shape]) -> dict[str, float]:
    """What names tell, where they are names of this model."""
    named = {slot.name: slot.weight_decay for slot in slots if slot.name is not None}
    short = unwrapped(named)
    found = {short[name]: decay for name, decay in named.items() if short[name] in parameters}
    if len(named) < len(slots) or not found:
        return {}
    return dict.fromkeys(parameters, 0.0) | found  # what no optimizer has, none decays


def _in_order(slots: Sequence[Slot], parameters: Mapping[str, Shape]) -> dict[str, float]:
    """An optimizer of all parameters: in one group, or in groups that follow their order."""
    if len(slots) != len(parameters):
        return {}
    decays, shapes = [slot.weight_decay for slot in slots], [slot.shape for slot in slots]
    wanted = [*parameters.values()]
    in_order = shapes == wanted and len(set(wanted)) > 1
    same = len(set(decays)) == 1 and set(shapes) <= {None, *wanted}
    return dict(zip(parameters, decays, strict=True)) if in_order or same else {}


def _by_shape(
    slots: Sequence[Slot], parameters: Mapping[str, Shape]
) -> Iterable[tuple[str, float]]:
    """The parameters of a shape that is decayed wherever it may occur, or nowhere."""
    decays: dict[Shape | None, set[float]] = {}
    for slot in slots:
        decays.setdefault(slot.shape, set()).add(slot.weight_decay)
    held, wanted = Counter(slot.shape for slot in slots), Counter(parameters.values())
    for name, shape in parameters.items():
        hidden = decays.get(None, set()) if held[shape] < wanted[shape] else set()
        possible = decays.get(shape, set()) | hidden
        if possible <= {0.0}:
            yield name, 0.0
        elif len(possible) == 1 and held[shape] == wanted[shape]:
            yield name, max(possible)
