"""BN3xx: how many samples and values the statistics come from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import sqrt

from bncheck.checks.calls import sees_data
from bncheck.facts import Unknown, UnknownFact
from bncheck.finding import Level, Observation
from bncheck.graph import Node, Shape
from bncheck.model import BatchSize, Model, NormLayer

DEVICES = Unknown(
    "batch size",
    "SyncBatchNorm takes its statistics from all devices, and their number is not in this file",
)
FROZEN = Unknown(
    "batch size",
    "no BatchNorm here has a batch counter, so that all may be frozen",
    "give the model as a module, saved whole",
)
SHAPES = Unknown(
    "shapes", "the size of an input is not known here", "export with fixed sizes, or give inputs"
)
NAMED_RANK = re.compile(r"InstanceNorm([123])d$")


def tiny_batch(model: Model, *, warn: int = 4, info: int = 16) -> Iterator[Observation]:
    """BN301: at most ``warn`` samples a batch (or fewer than ``info``) behind the statistics."""
    layers = [layer for layer in model.batch_norms if _takes_statistics(layer)]
    if not layers or model.batch_size.samples >= info:
        return
    if all(layer.kind == "sync-batch" for layer in layers):
        raise UnknownFact(DEVICES)
    if all(map(_may_be_frozen, layers)):
        raise UnknownFact(FROZEN)
    size = model.batch_size
    yield Observation(
        f"Statistics come from batches of {size.samples} ({size.source}): {_errors(size)}.",
        _evidence(size),
        _level(size, warn),
    )


def _level(size: BatchSize, warn: int) -> Level:
    """One value in a channel has no variance, which no training survives."""
    if size.samples * (size.positions or 2) == 1:
        return Level.ERROR
    return Level.WARNING if size.samples <= warn else Level.INFO


def _may_be_frozen(layer: NormLayer) -> bool:
    """Whether a layer has no counter, as FrozenBatchNorm, and no flag that tells."""
    has_no_counter = layer.knows(NormLayer.num_batches_tracked) and layer.counter is None
    return has_no_counter and not layer.knows(NormLayer.training)


def _takes_statistics(layer: NormLayer) -> bool:
    """Whether training moves running statistics: there are some (else BN104), and not frozen."""
    if layer.kind == "frozen-batch" or not layer.get(NormLayer.has_running_stats, True):
        return False
    return layer.get(NormLayer.training, True) or layer.get(NormLayer.requires_grad, True)


def _errors(size: BatchSize) -> str:
    """How far the variance may be off: at worst each sample counts once, at best each position."""
    error = _relative_error(size.samples)
    worst = "is undefined" if error is None else f"has a standard error of {error:.0%}"
    text = f"counting each once, the variance {worst}"
    if size.positions is None or size.positions <= 1:
        return text
    values = size.samples * size.positions
    return f"{text}; over {values} independent positions the error is {_relative_error(values):.0%}"


def _relative_error(values: int) -> float | None:
    """sqrt(2 / (n - 1)): of the variance of n independent normal values, relative to itself."""
    return sqrt(2 / (values - 1)) if values > 1 else None


def _evidence(size: BatchSize) -> dict[str, object]:
    evidence: dict[str, object] = {
        "samples": size.samples,
        "source": size.source,
        "relative_error": _relative_error(size.samples),
    }
    if size.positions is None:
        return evidence
    values = size.samples * size.positions
    return evidence | {"values": values, "relative_error_of_values": _relative_error(values)}


def one_value_per_channel(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN302: a call that takes each mean and variance from a single value."""
    if _has_wide_groups(layer):
        return
    if layer.kind == "batch" and layer.has_running_stats and not layer.training:
        return
    for call in layer.calls:
        if not _takes_own_statistics(layer, call) or not sees_data(call, model):
            continue
        shape = model.order.shapes.get(call.inputs[0], ())
        if _averages_one_value(layer, call, shape):
            yield _one_value(layer, shape)
            return


def _has_wide_groups(layer: NormLayer) -> bool:
    """Whether a group has several channels, so that no size of an input leaves one value."""
    groups, weight = layer.get(NormLayer.num_groups, 0), layer.get(NormLayer.weight, None)
    return layer.kind == "group" and weight is not None and weight.numel > groups > 0


def _takes_own_statistics(layer: NormLayer, call: Node) -> bool:
    if layer.kind == "group":
        return True
    asked = call.attributes.get("use_input_stats")  # of InstanceNorm
    return asked if isinstance(asked, bool) else not layer.has_running_stats or layer.training


def _averages_one_value(layer: NormLayer, call: Node, shape: Shape) -> bool:
    """Raises UnknownFact where a size that decides is not known."""
    sizes = _averaged(layer, call, shape)
    if any(size not in (None, 1) for size in sizes):
        return False
    if None in sizes or not shape:
        raise UnknownFact(SHAPES)
    return True


def _averaged(layer: NormLayer, call: Node, shape: Shape) -> Shape:
    """The sizes of what a mean is taken over, for data of (samples, channels, positions...)."""
    if len(shape) < 2:
        return (None,)
    if layer.kind == "batch":
        return shape[:1] + shape[2:]
    if layer.kind == "instance":
        return shape[2:] if _has_samples(layer, shape) else (None,)
    groups, channels = layer.num_groups, shape[1]
    in_group = channels // groups if groups and channels else None
    return (in_group, *shape[2:])


def _has_samples(layer: NormLayer, shape: Shape) -> bool:
    """Whether the first axis is that of samples, which torch.nn.InstanceNorm lets one omit."""
    named = NAMED_RANK.search(layer.class_path or "")
    return len(shape) == int(named[1]) + 2 if named else len(shape) > 2


def _one_value(layer: NormLayer, shape: Shape) -> Observation:
    per = {"batch": "channel", "instance": "sample and channel"}.get(layer.kind or "", "group")
    refused = " PyTorch refuses to train so." if layer.kind == "batch" else ""
    return Observation(
        f"Normalizes a single value in each {per} (input {_written(shape)}): it is its "
        f"own mean, so that nothing of the input is left and the output is the bias.{refused}",
        {"shape": list(shape), "values": 1},
    )


def _written(shape: Shape) -> str:
    return " x ".join("?" if size is None else str(size) for size in shape)
