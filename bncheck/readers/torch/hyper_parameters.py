"""The batch size in the hyper-parameters of a checkpoint.

BatchNorm takes its statistics on each device, so a number counts only where it is known to be one
of each device: by its name, or by the script that it was given to.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bncheck.facts import Unknown
from bncheck.model import NO_BATCH_SIZE, BatchSize
from bncheck.readers.torch.pickle_values import Dict, Instance, Value, attributes, mapping
from bncheck.readers.torch.training import is_count, is_ultralytics

INSTEAD = NO_BATCH_SIZE.instead
MAX_PLACES = 20_000  # of one set of hyper-parameters
MAX_DEPTH = 8
SYNCHRONISED = Unknown(
    "batch size", "statistics are synchronised over an unknown number of devices"
)
_OF_EACH_DEVICE = (
    "per_device_train_batch_size",
    "train_micro_batch_size_per_gpu",
    "batch_size_per_device",
    "batch_size_per_gpu",
    "samples_per_gpu",
)
_BY_CONVENTION = ("train_batch_size", "batch_size")  # Lightning builds a loader in each process
_SIZES = frozenset({*_OF_EACH_DEVICE, *_BY_CONVENTION})
_IN_A_SCRIPT = ("batch_size", "max_sentences")
_SYNC = ("sync_batchnorm", "sync_bn", "syncbn", "split_bn")
_NOT_TRAINING = re.compile(r"(^|_)(val|valid|validation|test|eval|predict|inference|dev)(_|$)")
# Scripts whose batch_size is that of each process, by arguments that they alone have in common.
_SCRIPTS: tuple[tuple[str, frozenset[str]], ...] = (
    ("timm", frozenset({"dist_bn", "split_bn", "sync_bn"})),
    ("torchvision", frozenset({"data_path", "print_freq", "test_only", "dist_url", "world_size"})),
    ("MAE, BEiT, ConvNeXt", frozenset({"dist_on_itp", "dist_url", "world_size"})),
    ("DeiT", frozenset({"repeated_aug", "dist_url", "world_size"})),
    ("fairseq", frozenset({"max_tokens", "update_freq", "distributed_world_size"})),
)


def batch_size(root: Value) -> BatchSize | Unknown:
    """Samples per device, from what Ultralytics, Lightning, mmengine and scripts leave."""
    held = mapping(root) or {}
    if is_ultralytics(held):
        name, key = ("train_args", "batch") if "train_args" in held else ("opt", "batch_size")
        return _of_ultralytics(_plain(held.get(name)), name, key)
    for key in ("hyper_parameters", "datamodule_hyper_parameters"):
        found = _of_lightning(held.get(key), key)
        if found is not NO_BATCH_SIZE:
            return found
    for key in ("args", "cfg"):
        found = _of_script(held.get(key), key)
        if found is not NO_BATCH_SIZE:
            return found
    return _of_openmmlab(_plain(held.get("meta")))


def _plain(value: Value) -> Mapping[str, Value]:
    """Named values of a dictionary, a namespace, an OmegaConf or any other plain object.

    OmegaConf keeps its entries as ``_content``, and a value as ``_val`` (omegaconf/base.py).
    """
    if not isinstance(value, Dict | Instance):
        return {}
    held = attributes(value)
    if isinstance(value, Instance) and value.class_path.startswith("omegaconf."):
        held = mapping(held.get("_content")) or {}
        return {name: _unboxed(each) for name, each in held.items()}
    return {**held, **(mapping(value) or {})}


def _unboxed(value: Value) -> Value:
    return attributes(value).get("_val", value)


def _of_lightning(value: Value, key: str) -> BatchSize | Unknown:
    """At the top, where save_hyperparameters leaves arguments; or the one number further down."""
    top = _plain(value)
    found = [each for each in _numbers(value, key) if each.is_training]
    if any(each.name in _SYNC for each in found):
        return SYNCHRONISED
    for name in (*_OF_EACH_DEVICE, *_BY_CONVENTION):
        number = top.get(name)
        if is_count(number) and number:
            return BatchSize(number, f"{key}: {name}")
    return _only([each for each in found if each.name in (*_OF_EACH_DEVICE, "batch_size")])


class _Number(NamedTuple):
    """A number, or a switch that is on, and where it stands."""

    path: tuple[str, ...]
    value: int

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def is_training(self) -> bool:
        return not any(map(_NOT_TRAINING.search, self.path))

    def __str__(self) -> str:
        return f"{self.path[0]}: {'.'.join(self.path[1:])}"


def _numbers(value: Value, key: str) -> Iterator[_Number]:
    """The sizes and switches among nested hyper-parameters, from the outside in."""
    for path, each in _places(value, key):
        is_switch = path[-1] in _SYNC
        if each is True if is_switch else path[-1] in _SIZES and is_count(each) and each:
            yield _Number(path, int(each))


def _places(value: Value, key: str) -> Iterator[tuple[tuple[str, ...], Value]]:
    """All that has a name, each object once."""
    waiting: deque[tuple[tuple[str, ...], Value]] = deque([((key,), value)])
    seen = {id(value)}
    while waiting and len(seen) < MAX_PLACES:
        path, place = waiting.popleft()
        for name, each in _plain(place).items():
            yield (*path, name), each
            if isinstance(each, Dict | Instance) and id(each) not in seen and len(path) < MAX_DEPTH:
                seen.add(id(each))
                waiting.append(((*path, name), each))


def _only(found: list[_Number]) -> BatchSize | Unknown:
    sizes = {each.value for each in found}
    if not found:
        return NO_BATCH_SIZE
    if len(sizes) > 1:
        listed = ", ".join(f"{'.'.join(each.path)} = {each.value}" for each in found[:2])
        return Unknown("batch size", f"the hyper-parameters name several ({listed})", INSTEAD)
    return BatchSize(found[0].value, str(found[0]))


def _of_script(value: Value, key: str) -> BatchSize | Unknown:
    """The arguments of a training script, which mean what the script makes of them."""
    held = _plain(value)
    if any(held.get(name) is True for name in _SYNC):
        return SYNCHRONISED
    for name in (*_OF_EACH_DEVICE, *_IN_A_SCRIPT):
        number = held.get(name)
        if is_count(number) and number:
            return _as_meant(number, f"{key}: {name}", held, name in _OF_EACH_DEVICE)
    dataset = _plain(held.get("dataset"))  # fairseq since 1.0
    number = dataset.get("batch_size")
    if is_count(number) and number and {"max_tokens", "num_workers"} <= dataset.keys():
        return BatchSize(number, f"{key}: dataset.batch_size, in the script of fairseq")
    return NO_BATCH_SIZE


def _as_meant(
    number: int, where: str, held: Mapping[str, Value], is_of_each_device: bool
) -> BatchSize | Unknown:
    script = next((name for name, own in _SCRIPTS if own <= held.keys()), None)
    if is_of_each_device:
        return BatchSize(number, where)
    if script:
        return BatchSize(number, f"{where}, in the script of {script}")
    return Unknown(
        "batch size",
        f"{where} is {number}, and whether on each device or in total is not in this file",
        INSTEAD,
    )


def _of_openmmlab(meta: Mapping[str, Value]) -> BatchSize | Unknown:
    from bncheck.readers.torch import openmmlab

    texts = (meta.get(name) for name in ("cfg", "config"))
    sizes = (openmmlab.batch_size(text) for text in texts if isinstance(text, str))
    return next((size for size in sizes if size is not None), NO_BATCH_SIZE)


def of_training_arguments(root: Value) -> BatchSize | Unknown:
    """Samples per device, from the training_args.bin of transformers."""
    number = _plain(root).get(_OF_EACH_DEVICE[0])
    if is_count(number) and number:
        return BatchSize(number, f"training_args.bin: {_OF_EACH_DEVICE[0]}")
    return NO_BATCH_SIZE


def _of_ultralytics(held: Mapping[str, Value], name: str, key: str) -> BatchSize | Unknown:
    """The total over all devices; -1 and fractions ask for an automatic size."""
    total, devices = held.get(key), _devices(held.get("device"))
    if not is_count(total) or total < 1:
        return Unknown("batch size", f"{name}.{key} was chosen automatically", INSTEAD)
    if devices is None:
        return Unknown(
            "batch size",
            f"{name}.{key} = {total} is the total over an unknown number of devices",
            INSTEAD,
        )
    return BatchSize(max(total // devices, 1), f"{name}: {key} {total} on {devices} device(s)")


def _devices(device: Value) -> int | None:
    if type(device) is int:
        return 1
    if isinstance(device, list | tuple) and device:
        return len(device)
    if isinstance(device, str) and device.strip():
        return len([each for each in device.split(",") if each.strip()])
    return None
