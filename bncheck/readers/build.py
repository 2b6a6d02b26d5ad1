"""Makes a Model of a state_dict or of a module tree, wherever it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bncheck.facts import Evidence, Unknown
from bncheck.graph import Graph
from bncheck.model import NO_BATCH_SIZE, BatchSize, Content, Model, NormLayer
from bncheck.readers import module_tree, nn_module, state_dict
from bncheck.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Origin:
    """What the container knows of a model beside its tensors and modules; see Model."""

    container: str
    member: str | None = None
    training_state: str | None = None
    loader_calls_eval: str | None = None
    batch_size: BatchSize | Unknown = NO_BATCH_SIZE


def from_state_dict(
    tensors: Mapping[str, Tensor], versions: Mapping[str, int], content: Content, origin: Origin
) -> Model:
    """A model of named tensors; wrappers' prefixes are taken off the names."""
    short = state_dict.unwrapped([*tensors])
    renamed = {short[name]: tensor for name, tensor in tensors.items()}
    layers = state_dict.layers(renamed, _renamed_versions(versions, short))
    order = Unknown("order", "a state_dict holds none", state_dict.INSTEAD)
    return _model(content, layers, f"{len(tensors)} tensors", order, order, origin)


def _renamed_versions(versions: Mapping[str, int], short: Mapping[str, str]) -> dict[str, int]:
    prefixes = {long.rpartition(".")[0]: name.rpartition(".")[0] for long, name in short.items()}
    return {prefixes.get(prefix, prefix): version for prefix, version in versions.items()}


def from_module(root: module_tree.ModuleRecord, origin: Origin) -> Model:
    """A model of a module tree; names are those of ``named_modules``."""
    modules = module_tree.tree(root)
    layers, order = nn_module.layers(modules)
    graph = nn_module.NOT_A_KNOWN_CALL
    holds = f"{root.class_path.rpartition('.')[2]} of {len(modules.places)} modules"
    return _model("module", layers, holds, graph, order, origin)


def _model(
    content: Content,
    layers: tuple[NormLayer, ...],
    holds: str,
    graph: Unknown,
    order: Graph | Unknown,
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
        facts={"graph": graph, "order": order, "batch_size": origin.batch_size},
    )
