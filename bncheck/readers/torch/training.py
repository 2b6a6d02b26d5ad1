"""What a checkpoint tells about its training: progress, batch size, who loads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from bncheck.facts import Unknown
from bncheck.model import NO_BATCH_SIZE, BatchSize
from bncheck.readers.torch.pickle_values import Value, attributes, mapping
from bncheck.readers.torch.values import is_optimizer

INSTEAD = NO_BATCH_SIZE.instead
MAX_OPTIMIZERS = 100
MAX_COUNT = 2**31
_COUNTERS = ("epoch", "global_step", "iteration", "iter", "step")
_PER_DEVICE = (
    "per_device_train_batch_size",
    "batch_size_per_device",
    "batch_size_per_gpu",
    "train_batch_size",
    "batch_size",
)
_SYNC = ("sync_batchnorm", "sync_bn", "syncbn")


def held_by(value: Value) -> Mapping[str, Value]:
    """Named values of a dictionary, a namespace or any other plain object."""
    return {**attributes(value), **(mapping(value) or {})}


def training_state(root: Value) -> str | None:
    """What makes this a training checkpoint, in words; None where nothing does."""
    held = mapping(root) or {}
    if any(is_optimizer(each) for value in held.values() for each in _one_or_many(value)):
        return "it holds the state of an optimizer" + _progress(held_by(held.get("meta")))
    counted = ((name, held.get(name)) for name in _COUNTERS)
    return next((f"it holds {n} {count}" for n, count in counted if _is_count(count)), None)


def _progress(meta: Mapping[str, Value]) -> str:
    """Which mmengine counts in ``meta``, in finished models too: no sign of training by itself."""
    counted = ((name, meta.get(name)) for name in ("epoch", "iter"))
    return next((f", {name} {count}" for name, count in counted if _is_count(count)), "")


def _is_count(value: Value) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < MAX_COUNT


def _one_or_many(value: Value) -> Sequence[Value]:
    return value[:MAX_OPTIMIZERS] if isinstance(value, list | tuple) else (value,)


def loader_calls_eval(root: Value) -> str | None:
    """Who switches the modules of this checkpoint to eval mode after loading."""
    return "Ultralytics' loader" if _is_ultralytics(mapping(root) or {}) else None


def _is_ultralytics(held: Mapping[str, Value]) -> bool:
    return "train_args" in held and bool(held.keys() & {"model", "ema"})


def batch_size(root: Value) -> BatchSize | Unknown:
    """Samples per device, from the hyper-parameters of Ultralytics, Lightning or mmengine."""
    held = mapping(root) or {}
    if _is_ultralytics(held):
        return _of_ultralytics(held_by(held["train_args"]))
    for key in ("hyper_parameters", "datamodule_hyper_parameters"):
        found = _per_device(held_by(held.get(key)), key)
        if not isinstance(found, Unknown) or found is not NO_BATCH_SIZE:
            return found
    return _of_openmmlab(held_by(held.get("meta")))


def _of_openmmlab(meta: Mapping[str, Value]) -> BatchSize | Unknown:
    from bncheck.readers.torch import openmmlab

    texts = (meta.get(name) for name in ("cfg", "config"))
    sizes = (openmmlab.batch_size(text) for text in texts if isinstance(text, str))
    return next((size for size in sizes if size is not None), NO_BATCH_SIZE)


def of_training_arguments(root: Value) -> BatchSize | Unknown:
    """Samples per device, from the training_args.bin of transformers."""
    return _per_device(held_by(root), "training_args.bin")


def _per_device(held: Mapping[str, Value], where: str) -> BatchSize | Unknown:
    if any(held.get(name) is True for name in _SYNC):
        return Unknown(
            "batch size", "statistics are synchronised over an unknown number of devices"
        )
    numbers = ((name, held.get(name)) for name in _PER_DEVICE)
    known = ((name, n) for name, n in numbers if _is_count(n) and n > 0)
    return next((BatchSize(n, f"{where}: {name}") for name, n in known), NO_BATCH_SIZE)


def _of_ultralytics(held: Mapping[str, Value]) -> BatchSize | Unknown:
    """``batch`` is the total over all devices; -1 and fractions ask for an automatic size."""
    total, devices = held.get("batch"), _devices(held.get("device"))
    if not _is_count(total) or total < 1:
        return Unknown("batch size", "train_args.batch was chosen automatically", INSTEAD)
    if devices is None:
        return Unknown(
            "batch size",
            f"train_args.batch = {total} is the total over an unknown number of devices",
            INSTEAD,
        )
    return BatchSize(max(total // devices, 1), f"train_args: batch {total} on {devices} device(s)")


def _devices(device: Value) -> int | None:
    if type(device) is int:
        return 1
    if isinstance(device, list | tuple) and device:
        return len(device)
    if isinstance(device, str) and device.strip():
        return len([each for each in device.split(",") if each.strip()])
    return None
