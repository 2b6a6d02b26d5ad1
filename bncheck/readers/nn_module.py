"""Normalization layers of a module tree, pickled or live.

Both kinds of tree are read through ``ModuleRecord``: what a module has in its ``__dict__``. Classes
are known by path where they are PyTorch's own; any other is judged by what it holds, since its
code is not at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Protocol

from bncheck.facts import Unknown, unknown
from bncheck.graph import Graph, Node
from bncheck.model import Kind, NormLayer
from bncheck.readers.sequential import fragments
from bncheck.readers.torch_values import Parameter
from bncheck.tensor import Tensor

MAX_MODULES = 500_000
INSTEAD = "check the exported .onnx"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
NOT_A_KNOWN_CALL = Unknown("order", "a pickled module holds none outside nn.Sequential", INSTEAD)

_TORCH_KINDS: dict[str, Kind] = {
    "batchnorm.BatchNorm1d": "batch",
    "batchnorm.BatchNorm2d": "batch",
    "batchnorm.BatchNorm3d": "batch",
    "batchnorm.LazyBatchNorm1d": "batch",
    "batchnorm.LazyBatchNorm2d": "batch",
    "batchnorm.LazyBatchNorm3d": "batch",
    "batchnorm.SyncBatchNorm": "sync-batch",
    "instancenorm.InstanceNorm1d": "instance",
    "instancenorm.InstanceNorm2d": "instance",
    "instancenorm.InstanceNorm3d": "instance",
    "instancenorm.LazyInstanceNorm1d": "instance",
    "instancenorm.LazyInstanceNorm2d": "instance",
    "instancenorm.LazyInstanceNorm3d": "instance",
    "normalization.GroupNorm": "group",
    "normalization.LayerNorm": "layer",
    "normalization.RMSNorm": "rms",
    "normalization.LocalResponseNorm": "local-response",
    "normalization.CrossMapLRN2d": "local-response",
}


class ModuleRecord(Protocol):
    """One module: its class, its plain attributes, its tensors and its children, in order."""

    @property
    def identity(self) -> int:
        """Equal for two places that hold the same module."""

    @property
    def class_path(self) -> str:
        """Module and qualified name of the class."""

    @property
    def attributes(self) -> Mapping[str, object]:
        """What else the module holds in its ``__dict__``."""

    @property
    def parameters(self) -> Mapping[str, Parameter | None]:
        """Registered parameters; None for one that is registered as absent."""

    @property
    def buffers(self) -> Mapping[str, Parameter | None]:
        """Registered buffers, likewise."""

    @property
    def children(self) -> Mapping[str, ModuleRecord]:
        """Registered submodules."""


@dataclass(frozen=True, eq=False)
class Tree:
    """The modules of a tree by qualified name, each once, in the order of named_modules."""

    places: Mapping[str, ModuleRecord]
    references: Counter[int]  # by identity: in how many places a module is registered

    def is_shared(self, record: ModuleRecord) -> bool:
        """Whether a module is registered in several places."""
        return self.references[record.identity] > 1


def tree(root: ModuleRecord) -> Tree:
    """Walk a module; a module inside itself is entered once, and at most MAX_MODULES are."""
    places: dict[str, ModuleRecord] = {}
    references: Counter[int] = Counter()
    stack: list[tuple[str, ModuleRecord]] = [("", root)]
    while stack and len(places) < MAX_MODULES:
        name, record = stack.pop()
        references[record.identity] += 1
        if references[record.identity] > 1:
            continue
        places[name] = record
        for child_name, child in reversed([*record.children.items()]):
            stack.append((f"{name}.{child_name}" if name else child_name, child))
    return Tree(places, references)


def layers(modules: Tree) -> tuple[tuple[NormLayer, ...], Graph]:
    """The normalization layers, and the order that exact torch Sequentials fix."""
    order, calls = fragments(modules)
    return tuple(_layers(modules, calls)), order


def _layers(modules: Tree, calls: Mapping[int, tuple[Node, ...]]) -> Iterator[NormLayer]:
    for name, record in modules.places.items():
        kind = kind_of(record)
        if kind is not None:
            facts = _facts(record, kind)
            facts["calls"] = calls.get(record.identity, NOT_A_KNOWN_CALL)
            yield NormLayer(name, kind, record.class_path, facts)


def kind_of(record: ModuleRecord) -> Kind | None:
    """Which normalization layer a module is, if it is one."""
    path = record.class_path
    if path.startswith("torch.nn.modules."):
        return _TORCH_KINDS.get(path.removeprefix("torch.nn.modules."))
    attributes, name = record.attributes, path.rpartition(".")[2].lower()
    if "running_mean" in record.buffers and "running_var" in record.buffers:
        return _kind_with_statistics(record, name)
    if "num_groups" in attributes and "num_channels" in attributes:
        return "group"
    if "normalized_shape" in attributes:
        return "layer" if "bias" in record.parameters else "rms"
    if not _is_lone_affine(record):
        return None
    if "variance_epsilon" in attributes or name.endswith("rmsnorm"):
        return "layer" if record.parameters.get("bias") else "rms"
    return "layer" if "layernorm" in name else None


def _kind_with_statistics(record: ModuleRecord, class_name: str) -> Kind:
    if "instance" in class_name:
        return "instance"
    if "weight" in record.buffers or "frozen" in class_name:
        return "frozen-batch"
    return "sync-batch" if "sync" in class_name else "batch"


def _is_lone_affine(record: ModuleRecord) -> bool:
    """A weight that is a vector, perhaps with a bias of its shape, and nothing else."""
    weight = record.parameters.get("weight")
    if weight is None or len(weight.tensor.shape) != 1 or record.children:
        return False
    return record.parameters.keys() <= {"weight", "bias"}


def _facts(record: ModuleRecord, kind: Kind) -> dict[str, object]:
    attributes = record.attributes
    affine = {role: _held(record, role) for role in ("weight", "bias")}
    facts: dict[str, object] = {
        **unknown((NormLayer.momentum, NormLayer.track_running_stats), "its class has none"),
        "training": _typed(attributes, "training", bool, "mode"),
        "eps": _eps(attributes, kind),
        "affine": affine["weight"] is not None,
        "requires_grad": any(p.requires_grad for p in affine.values() if p),
        **{role: p and p.tensor for role, p in affine.items()},
    }
    if kind in ("batch", "sync-batch", "frozen-batch", "instance"):
        facts |= _statistics(record)
    return facts


def _statistics(record: ModuleRecord) -> dict[str, object]:
    attributes = record.attributes
    held = {role: _held(record, role) for role in STATISTICS}
    facts: dict[str, object] = {role: p and p.tensor for role, p in held.items()}
    facts["has_running_stats"] = bool(held["running_mean"] and held["running_var"])
    facts["num_features"] = _typed(attributes, "num_features", int)
    if "num_features" not in attributes:
        facts["num_features"] = _length(facts["running_mean"])
    facts["momentum"] = _typed(attributes, "momentum", float | int | None)
    facts["track_running_stats"] = _typed(attributes, "track_running_stats", bool)
    return facts


def _eps(attributes: Mapping[str, object], kind: Kind) -> object:
    names = (name for name in ("eps", "variance_epsilon", "epsilon") if name in attributes)
    if kind == "local-response":
        return Unknown("eps", "its class has none")
    return _typed(attributes, next(names, "eps"), float | int | None, "eps")


def _typed(
    attributes: Mapping[str, object], name: str, wanted: type | UnionType, what: str = ""
) -> object:
    """An attribute, where it is there and of the type that PyTorch gives it."""
    if name not in attributes:
        return Unknown(what or name, "the module holds none")
    value = attributes[name]
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        return Unknown(what or name, f"the module holds something else under {name!r}")
    return value


def _held(record: ModuleRecord, role: str) -> Parameter | None:
    return record.parameters.get(role) or record.buffers.get(role)


def _length(tensor: object) -> object:
    if isinstance(tensor, Tensor) and len(tensor.shape) == 1:
        return tensor.shape[0]
    return Unknown("num_features", "the module holds none")
