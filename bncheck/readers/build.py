"""Makes a Model of a state_dict or of a module tree, wherever it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bncheck.facts import Evidence, Unknown
from bncheck.model import (
    NO_BATCH_SIZE,
    BatchSize,
    Content,
    Model,
    NormLayer,
)
from bncheck.readers import module_tree, nn_module, state_dict
from bncheck.tensor import Tensor

if TYPE_CHECKING:
    from bncheck.readers.torch.optimizer import Slot

Shapes = Mapping[str, tuple[int, ...]]


class Origin(NamedTuple):
    """What the container knows of a model beside its tensors and modules; see Model."""

    container: str
    member: str | None = None
    training_state: str | None = None
    loader_calls_eval: str | None = None
    batch_size: BatchSize | Unknown = NO_BATCH_SIZE
    optimizer: Sequence[Slot] | Unknown = ()


def from_state_dict(
    tensors: Mapping[str, Tensor], versions: Mapping[str, int], content: Content, origin: Origin
) -> Model:
    """A model of named tensors; wrappers' prefixes are taken off the names."""
    renamed, versions = _unwrapped(tensors, versions)
    layers = state_dict.layers(renamed, versions)
    order = Unknown("order", "a state_dict holds none", state_dict.INSTEAD)
    facts: dict[str, object] = {"graph": order, "order": order}
    facts |= _training(origin, lambda: state_dict.parameters(renamed))
    return _model(content, layers, f"{len(tensors)} tensors", facts, origin)


def _unwrapped(
    tensors: Mapping[str, Tensor], versions: Mapping[str, int]
) -> tuple[Mapping[str, Tensor], Mapping[str, int]]:
    short = state_dict.unwrapped(tensors)
    if all(name is long for long, name in short.items()):
        return tensors, versions
    prefixes = {long.rpartition(".")[0]: name.rpartition(".")[0] for long, name in short.items()}
    renamed = {short[name]: tensor for name, tensor in tensors.items()}
    return renamed, {prefixes.get(prefix, prefix): number for prefix, number in versions.items()}


def from_module(root: module_tree.ModuleRecord, origin: Origin) -> Model:
    """A model of a module tree; names are those of ``named_modules``."""
    modules = module_tree.tree(root)
    layers, order = nn_module.layers(modules)
    holds = f"{root.class_path.rpartition('.')[2]} of {len(modules.places)} modules"
    facts: dict[str, object] = {"graph": nn_module.NOT_A_KNOWN_CALL, "order": order}
    facts |= _training(origin, lambda: module_tree.parameters(modules))
    return _model("module", layers, holds, facts, origin)


def _training(origin: Origin, parameters: Callable[[], Shapes]) -> dict[str, object]:
    """What the optimizers beside a model tell."""
    if not origin.optimizer:
        return {}
    if isinstance(origin.optimizer, Unknown):
        return {"weight_decay": origin.optimizer}
    from bncheck.readers.torch import optimizer

    return {
        "weight_decay": optimizer.weight_decay(origin.optimizer, parameters()),
        "optimizer_dtypes": frozenset(slot.dtype for slot in origin.optimizer if slot.dtype),
    }


def _model(
    content: Content,
    layers: tuple[NormLayer, ...],
    holds: str,
    facts: Mapping[str, object],
    origin: Origin,
) -> Model:
    has_metadata = origin.training_state or isinstance(origin.batch_size, BatchSize)
    evidence = {Evidence.TENSORS}
    evidence |= {Evidence.FLAGS} if content == "module" else set()
    evidence |= {Evidence.METADATA} if has_metadata else set()
    return Model(
        format=origin.container,
        content=content,
        layers=layers,
        evidence=frozenset(evidence),
        member=origin.member,
        holds=holds,
        training_state=origin.training_state,
        loader_calls_eval=origin.loader_calls_eval if content == "module" else None,
        facts={**facts, "batch_size": origin.batch_size},
    )
