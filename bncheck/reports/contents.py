"""What a model is and holds, in words."""

from __future__ import annotations

from collections import Counter

from bncheck.model import Kind, Model

CONTENTS = {
    "module": "pickled module",
    "state_dict": "state_dict",
    "checkpoint": "checkpoint",
    "graph": "graph",
}
CLASSES: dict[Kind, str] = {
    "batch": "BatchNorm",
    "sync-batch": "SyncBatchNorm",
    "frozen-batch": "FrozenBatchNorm",
    "instance": "InstanceNorm",
    "group": "GroupNorm",
    "layer": "LayerNorm",
    "rms": "RMSNorm",
    "local-response": "LocalResponseNorm",
}


def contents(model: Model) -> list[str]:
    """For example ``checkpoint``, ``53 BatchNorm``; without BatchNorm, what else it holds."""
    rest = model.holds.split(", ") if model.holds and not model.batch_norms else []
    return [_content(model), *norm_layers(model), *rest]


def _content(model: Model) -> str:
    if model.format == "torchscript" and model.content == "module":
        return "scripted module"
    return "module" if model.format == "module" else CONTENTS[model.content]


def norm_layers(model: Model) -> list[str]:
    """Counts by kind, in the order of kinds; the layers of unknown kind last."""
    counts = Counter(layer.kind for layer in model.layers)
    known = [f"{counts[kind]} {name}" for kind, name in CLASSES.items() if counts[kind]]
    unknown = counts[None]
    if unknown:
        known.append(f"{unknown} norm {plural(unknown, 'layer')} of unknown kind")
    return known


def plural(count: int, noun: str) -> str:
    """The noun for so many."""
    return noun if count == 1 else f"{noun}s"
