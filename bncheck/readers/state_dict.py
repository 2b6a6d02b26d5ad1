"""Normalization layers of a state_dict: what names and shapes alone can prove.

A state_dict has no classes. Running statistics make a batch norm; a weight and a bias of one shape
make a normalization layer of a kind that the file does not tell; a lone vector is one only where
its name says so. ``_metadata``, where it survived, adds the version of the class: 2 for the
BatchNorm family, 3 for detectron2's FrozenBatchNorm2d.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bncheck.facts import Fact, Unknown, unknown
from bncheck.model import Kind, NormLayer
from bncheck.readers.limits import bounded
from bncheck.tensor import Tensor

ALIASES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
    "moving_variance": "running_var",
}
ROLES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
WRAPPERS = ("module.", "_orig_mod.")
# What torch.compile, FSDP and activation checkpointing insert anywhere in a name.
_INSERTED = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
MAX_WRAPPERS = 8
# Quantized layers have a scale and a zero point besides.
_MAY_HOLD = {"weight", "bias", "scale", "zero_point", "_extra_state"}
_NAMED_NORM = re.compile(r"norm|(^|_)(ln|rms)(_|\d|$)", re.IGNORECASE)
_FLOATING = ("float", "bfloat")
_BATCH_VERSION, _FROZEN_VERSION = 2, 3
INSTEAD = "check the exported .onnx, or the module saved whole"
_NOT_HELD: tuple[Fact[Any], ...] = (
    NormLayer.eps,
    NormLayer.momentum,
    NormLayer.track_running_stats,
    NormLayer.training,
    NormLayer.has_running_stats,
    NormLayer.requires_grad,
    NormLayer.calls,
)
_TELLING = ("bias", "beta", "mean", "var", "variance")
_BUFFERS = {"running_mean", "running_var", "num_batches_tracked"}
UNKNOWN = unknown(_NOT_HELD, "a state_dict holds none", INSTEAD)


def layers(tensors: Mapping[str, Tensor], versions: Mapping[str, int]) -> tuple[NormLayer, ...]:
    """The layers in order of their first key; ``versions`` as in ``_metadata``, by prefix."""
    # A large model has very many lone matrices, which are kept out of the groups.
    places = {_place(key) for key, tensor in tensors.items() if _may_be_of_a_norm(key, tensor)}
    groups: dict[str, list[str]] = {}
    for key in tensors:
        place = _place(key)
        if place in places:
            groups.setdefault(place, []).append(key)
    return bounded(_layers(groups, tensors, versions))


def _place(key: str) -> str:
    """A name up to its last dot."""
    return key[: key.rfind(".") + 1]


def _may_be_of_a_norm(key: str, tensor: Tensor) -> bool:
    """Whether a tensor tells of a normalization layer: they all have one for which this holds."""
    return len(tensor.shape) == 1 or key.endswith(_TELLING)


def parameters(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of what may be parameters, in order, under PyTorch's names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for key, tensor in tensors.items():
        place, dot, leaf = key.rpartition(".")
        role = ALIASES.get(leaf, leaf)
        if role not in _BUFFERS and tensor.dtype.startswith(_FLOATING):
            shapes[place + dot + role] = tensor.shape
    return shapes


def _layers(
    groups: Mapping[str, Sequence[str]],
    tensors: Mapping[str, Tensor],
    versions: Mapping[str, int],
) -> Iterator[NormLayer]:
    for path, keys in groups.items():
        held = {key[len(path) :]: tensors[key] for key in keys}
        prefix, group = path.removesuffix("."), _by_role(held)
        version = versions.get(prefix)
        foreign = {"foreign_names": _foreign(held)}
        if "running_mean" in group or "running_var" in group:
            kind: Kind = "frozen-batch" if version == _FROZEN_VERSION else "batch"
            yield NormLayer(prefix, kind, None, _with_statistics(group) | foreign)
        elif _is_norm(prefix, group, version):
            yield NormLayer(prefix, None, None, _without_statistics(group) | foreign)


def _foreign(held: Iterable[str]) -> dict[str, str]:
    """The names that stand for a role where nothing is called after it, by role."""
    present = set(held)
    named = {ALIASES[leaf]: leaf for leaf in held if leaf in ALIASES}
    return {role: leaf for role, leaf in named.items() if role not in present}


def _by_role(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Another library's name for a role counts where PyTorch's own is not there."""
    known = {ALIASES[leaf]: tensor for leaf, tensor in held.items() if leaf in ALIASES}
    return known | {leaf: tensor for leaf, tensor in held.items() if leaf not in ALIASES}


def _is_norm(prefix: str, group: Mapping[str, Tensor], version: int | None) -> bool:
    weight, bias = group.get("weight"), group.get("bias")
    if weight is None or not group.keys() <= _MAY_HOLD or not weight.shape:
        return False
    if bias is not None:
        return bias.shape == weight.shape
    named = _NAMED_NORM.search(prefix.rpartition(".")[2]) is not None
    return len(weight.shape) == 1 and (named or version == _BATCH_VERSION)


def _with_statistics(group: Mapping[str, Tensor]) -> dict[str, object]:
    vector = group.get("running_mean") or group["running_var"]
    facts: dict[str, object] = {**UNKNOWN, "affine": "weight" in group}
    if len(vector.shape) == 1:
        facts["num_features"] = vector.shape[0]
    for role in ROLES:
        facts[role] = group.get(role)
    for role in ("running_mean", "running_var"):
        if role not in group:
            facts[role] = Unknown(role, "the state_dict has no such key for this layer")
    return facts


def _without_statistics(group: Mapping[str, Tensor]) -> dict[str, object]:
    return {**UNKNOWN, "affine": True, "weight": group["weight"], "bias": group.get("bias")}


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Each name without what wrappers put before all of them, or insert."""
    kept = {name: name for name in names}
    for _ in range(MAX_WRAPPERS):
        prefix = _common_wrapper(kept.values()) if kept else None
        if prefix is None:
            break
        kept = {name: short.removeprefix(prefix) for name, short in kept.items()}
    if not any(map(_INSERTED.search, kept.values())):
        return kept
    inner = {name: _INSERTED.sub("", short) for name, short in kept.items()}
    return inner if len(set(inner.values())) == len(inner) else kept


def _common_wrapper(names: Iterable[str]) -> str | None:
    first, *others = names
    prefixes = (wrapper for wrapper in WRAPPERS if first.startswith(wrapper))
    return next((w for w in prefixes if all(name.startswith(w) for name in others)), None)
