"""What a checkpoint tells about its training: how far it is, and who loads the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

from bncheck.readers.torch.optimizer import state_dicts
from bncheck.readers.torch.pickle_values import Value, attributes, mapping

MAX_COUNT = 2**31
_OF_YOLOV5 = frozenset({"batch_size", "device", "hyp", "imgsz", "multi_scale"})
_COUNTERS = ("epoch", "global_step", "iteration", "iter", "step")


def training_state(root: Value) -> str | None:
    """What makes this a training checkpoint, in words; None where nothing does."""
    held = mapping(root) or {}
    if any(True for _ in state_dicts(root)):
        return "it holds the state of an optimizer" + _progress(held.get("meta"))
    counted = ((name, held.get(name)) for name in _COUNTERS)
    return next((f"it holds {n} {count}" for n, count in counted if is_count(count)), None)


def _progress(meta: Value) -> str:
    """Which mmengine counts in ``meta``, in finished models too: no sign of training by itself."""
    held = {**attributes(meta), **(mapping(meta) or {})}
    counted = ((name, held.get(name)) for name in ("epoch", "iter"))
    return next((f", {name} {count}" for name, count in counted if is_count(count)), "")


def is_count(value: Value) -> TypeGuard[int]:
    """Whether a value is a number that a loop can have counted to."""
    return type(value) is int and 0 <= value < MAX_COUNT


def loader_calls_eval(root: Value) -> str | None:
    """Who switches the modules of this checkpoint to eval mode after loading."""
    return "Ultralytics' loader" if is_ultralytics(mapping(root) or {}) else None


def is_ultralytics(held: Mapping[str, Value]) -> bool:
    """Whether these are the entries of a checkpoint of Ultralytics, or of its YOLOv5."""
    is_theirs = "train_args" in held or (mapping(held.get("opt")) or {}).keys() >= _OF_YOLOV5
    return is_theirs and bool(held.keys() & {"model", "ema"})
