"""Normalization layers of a module tree, pickled or live.

Classes are known by path where they are PyTorch's own; any other is judged by what it holds, since
its code is not at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import TYPE_CHECKING, NamedTuple

from bncheck.facts import Unknown, unknown
from bncheck.graph import Graph, Node
from bncheck.model import BATCH_KINDS, Kind, NormLayer
from bncheck.readers.limits import bounded
from bncheck.readers.module_tree import ModuleRecord, Tree
from bncheck.readers.sequential import fragments, torch_class
from bncheck.tensor import Tensor

if TYPE_CHECKING:
    pass

INSTEAD = "check the exported .onnx"
MAX_INTEGER = 2**63 - 1
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
NOT_A_KNOWN_CALL = Unknown("order", "a pickled module holds none outside nn.Sequential", INSTEAD)

_KINDS: dict[str, Kind] = {
    "batchnorm.BatchNorm1d": "batch",
    "batchnorm.BatchNorm2d": "batch",
    "batchnorm.BatchNorm3d": "batch",
    "batchnorm.LazyBatchNorm1d": "batch",
    "batchnorm.LazyBatchNorm2d": "batch",
    "batchnorm.LazyBatchNorm3d": "batch",
    "batchnorm.SyncBatchNorm": "sync-batch",
    "batchnorm._BatchNorm": "batch",
    "instancenorm.InstanceNorm1d": "instance",
    "instancenorm.InstanceNorm2d": "instance",
    "instancenorm.InstanceNorm3d": "instance",
    "instancenorm.LazyInstanceNorm1d": "instance",
    "instancenorm.LazyInstanceNorm2d": "instance",
    "instancenorm.LazyInstanceNorm3d": "instance",
    "instancenorm._InstanceNorm": "instance",
    "normalization.GroupNorm": "group",
    "normalization.LayerNorm": "layer",
    "normalization.RMSNorm": "rms",
    "normalization.LocalResponseNorm": "local-response",
    "normalization.CrossMapLRN2d": "local-response",
}


def layers(modules: Tree) -> tuple[tuple[NormLayer, ...], Graph]:
    """The normalization layers, and the order that exact torch Sequentials fix."""
    order, calls = fragments(modules)
    return bounded(_layers(modules, calls)), order


def _layers(modules: Tree, calls: Mapping[int, tuple[Node, ...]]) -> Iterator[NormLayer]:
    for name, record in modules.places.items():
        norm = recognized(record)
        if norm is not None:
            facts = _facts(record, norm.kind)
            facts["calls"] = calls.get(record.identity, NOT_A_KNOWN_CALL)
            yield NormLayer(name, norm.kind, record.class_path, facts)


class Norm(NamedTuple):
    """A normalization layer; its kind is None where the record does not tell it."""

    kind: Kind | None


def recognized(record: ModuleRecord) -> Norm | None:
    """Which normalization layer a module is, if it is one."""
    for kind in map(_KINDS.get, map(torch_class, record.lineage)):
        if kind is not None:
            return Norm(kind)
    if torch_class(record.class_path):
        return None
    return _recognized_by_content(record, record.class_path.rpartition(".")[2].lower())


def _recognized_by_content(record: ModuleRecord, class_name: str) -> Norm | None:
    attributes = record.attributes
    if {"running_mean", "running_var"} <= record.buffers.keys() | record.parameters.keys():
        return Norm(_kind_with_statistics(record, class_name))
    if "num_groups" in attributes and "num_channels" in attributes:
        return Norm("group")
    if "normalized_shape" in attributes:
        is_layer_norm = "bias" in record.parameters or "layernorm" in class_name
        return Norm("layer" if is_layer_norm and "rms" not in class_name else "rms")
    if not _is_lone_affine(record):
        return None
    if "variance_epsilon" in attributes or "rmsnorm" in class_name:
        return Norm("layer" if record.parameters.get("bias") else "rms")
    return Norm("layer") if "layernorm" in class_name else None


def _kind_with_statistics(record: ModuleRecord, class_name: str) -> Kind | None:
    if "instance" in class_name:
        return "instance"
    if "weight" in record.buffers or "frozen" in class_name:
        return "frozen-batch"
    if "sync" in class_name:
        return "sync-batch"
    # Only a BatchNorm has statistics unless asked; without any it may be an InstanceNorm too.
    is_batch_norm = record.lookup("running_var") or re.search("batch|bn", class_name)
    return "batch" if is_batch_norm else None


def _is_lone_affine(record: ModuleRecord) -> bool:
    """A weight that is a vector, perhaps with a bias of its shape, and nothing else."""
    weight = record.parameters.get("weight")
    if weight is None or record.children or not record.parameters.keys() <= {"weight", "bias"}:
        return False
    return isinstance(weight.tensor, Tensor) and len(weight.tensor.shape) == 1


def _facts(record: ModuleRecord, kind: Kind | None) -> dict[str, object]:
    attributes = record.attributes
    affine = {role: record.lookup(role) for role in ("weight", "bias")}
    facts: dict[str, object] = {
        **unknown((NormLayer.momentum, NormLayer.track_running_stats), "its class has none"),
        "training": _typed(attributes, "training", bool, "mode"),
        "eps": _eps(attributes, kind),
        "affine": affine["weight"] is not None,
        "foreign_names": {},  # whatever they are, the module's own class looks for them
        "requires_grad": any(p.requires_grad for p in affine.values() if p),
        **{role: p and p.tensor for role, p in affine.items()},
    }
    if kind in (*BATCH_KINDS, "instance", None):
        facts |= _statistics(record)
    if kind == "group":
        facts["num_groups"] = _typed(attributes, "num_groups", int)
        facts["num_features"] = _typed(attributes, "num_channels", int, "num_features")
        if "num_channels" not in attributes:
            facts["num_features"] = _length(facts["weight"])
    return facts


def _statistics(record: ModuleRecord) -> dict[str, object]:
    attributes = record.attributes
    held = {role: record.lookup(role) for role in STATISTICS}
    facts: dict[str, object] = {role: p and p.tensor for role, p in held.items()}
    facts["has_running_stats"] = bool(held["running_mean"] and held["running_var"])
    facts["num_features"] = _typed(attributes, "num_features", int)
    if "num_features" not in attributes:
        facts["num_features"] = _length(facts["running_mean"])
    facts["momentum"] = _typed(attributes, "momentum", float | int | None)
    facts["track_running_stats"] = _typed(attributes, "track_running_stats", bool)
    return facts


def _eps(attributes: Mapping[str, object], kind: Kind | None) -> object:
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
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return Unknown(what or name, "the module holds a number beyond all sense")
    return value


def _length(tensor: object) -> object:
    if isinstance(tensor, Tensor) and len(tensor.shape) == 1:
        return tensor.shape[0]
    return Unknown("num_features", "the module holds none")
