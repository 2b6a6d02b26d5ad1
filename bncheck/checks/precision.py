"""BN2xx: statistics, gains and shifts in 16 bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import repeat
from math import prod, sqrt

from bncheck.checks.defaults import (
    eps_evidence,
    eps_or_default,
    momentum_evidence,
    momentum_or_default,
)
from bncheck.checks.deviation import largest_size, live, smallest_deviation
from bncheck.checks.memory import once_per_model
from bncheck.checks.topology import LINEAR_OPS, data
from bncheck.checks.words import channels, where
from bncheck.facts import Unknown, UnknownFact
from bncheck.finding import Level, Observation
from bncheck.graph import NodeKind
from bncheck.model import Model, NormLayer
from bncheck.tensor import Tensor

ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8}  # half a unit in the last place, at most
LARGEST = 65504.0  # in float16
LARGE_GAIN = 100.0  # below it, a weight would have to be above 655
ROLES = (NormLayer.weight, NormLayer.bias, NormLayer.running_mean, NormLayer.running_var)
GAIN, SHIFT = "gain (weight / sqrt(var + eps))", "shift (bias - mean * gain)"
FOLDED = "folded weight"
PRECISION = Unknown(
    "precision",
    "whether the rest of the model is in float16 is not in this file",
    "check the exported .onnx",
)


def low_precision_statistics(
    layer: NormLayer, model: Model, *, limit: float = 0.01
) -> Iterator[Observation]:
    """BN209: 16-bit statistics whose rounding stalls the average over ``limit`` from its goal."""
    held = {"running_mean": layer.running_mean, "running_var": layer.running_var}
    low = {name: each.dtype for name, each in held.items() if each and each.dtype in ROUNDOFF}
    if not low:
        return
    dtype = max(low.values(), key=ROUNDOFF.__getitem__)
    error = _stall(layer, ROUNDOFF[dtype], limit)
    if error > limit:
        updated = _is_updated(layer, model, dtype)
        yield Observation(
            f"{' and '.join(low)} {'is' if len(low) == 1 else 'are'} {dtype}: an update by less "
            f"than {ROUNDOFF[dtype]:.2%} is rounded away, and the moving average stops up to "
            f"{error:.2g} times its value off"
            + (". Training goes on in it." if updated else ", unless it was only saved so."),
            {"dtypes": low, "relative_error": error, **momentum_evidence(layer)},
            Level.WARNING if updated else None,
        )


def _stall(layer: NormLayer, roundoff: float, limit: float) -> float:
    """How far from its goal a moving average may stop, relative to its value; 0 if there is none.

    An update by momentum * |goal - value| is lost below roundoff * |value|. Raises UnknownFact
    where the momentum is not known, and one below the default would stall the average.
    """
    momentum = momentum_or_default(layer)
    if momentum is None:  # the last of k batches weighs 1 / k
        return roundoff * (layer.counter or 0)
    if not 0 < momentum <= 1:
        return 0.0
    if roundoff / momentum <= limit:
        momentum = layer.momentum or momentum
    return roundoff / momentum


def _is_updated(layer: NormLayer, model: Model, dtype: str) -> bool:
    """Whether training goes on in this precision, live or by what lies beside the model.

    An optimizer's state in another precision shows that the model was only saved in this one.
    """
    if not model.training_state or not layer.get(NormLayer.training, True):
        return False
    if model.format == "module":
        return True
    if not model.knows(Model.optimizer_dtypes):
        return False
    return not model.optimizer_dtypes or dtype in model.optimizer_dtypes


def fp16_range(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN210: a variance, gain or shift beyond float16 in a model of that precision."""
    mean, var = layer.running_mean, layer.running_var
    if mean is None or var is None:
        return
    half = _is_half(layer, model)
    beyond = {} if half is False else _beyond(layer, mean, var) or _folded(layer, model, var)
    if beyond:
        if half is None:
            raise UnknownFact(PRECISION)
        indices = sorted({index for sizes in beyond.values() for index in sizes})
        largest = {name: max(sizes.values()) for name, sizes in beyond.items()}
        yield Observation(
            f"{', '.join(f'{name} {size:.3g}' for name, size in largest.items())} in "
            f"{where(indices, var.numel)}: float16 ends at 65504, what is beyond becomes infinite, "
            "and the output a constant, infinity or NaN.",
            {**channels(indices, var.numel), "largest": largest, **eps_evidence(layer)},
        )


def _beyond(layer: NormLayer, mean: Tensor, var: Tensor) -> dict[str, dict[int, float]]:
    """What is too large, and by channel how large."""
    eps, weight, bias = eps_or_default(layer), layer.weight, layer.bias
    lowest = var.minimum + eps
    if not lowest > 0:
        return {}
    gain = largest_size(weight, 1.0) / sqrt(lowest)
    shift = largest_size(bias) + largest_size(mean) * gain
    if max(var.maximum, gain, shift) <= LARGEST:
        return {}
    scales = repeat(1.0) if weight is None else weight.values
    gains = [g / sqrt(v + eps) for g, v in zip(scales, var.values, strict=False)]
    moved = (g * m for g, m in zip(gains, mean.values, strict=False))
    biases = repeat(0.0) if bias is None else bias.values
    shifts = [b - m for b, m in zip(biases, moved, strict=False)]
    sizes = {"running_var": var.values, GAIN: gains, SHIFT: shifts}
    found = {name: _too_large(each) for name, each in sizes.items()}
    return {name: large for name, large in found.items() if large}


def _folded(layer: NormLayer, model: Model, var: Tensor) -> dict[str, dict[int, float]]:
    """By channel the largest weight of the linear op in front, times a gain that is large."""
    eps = eps_or_default(layer)
    if largest_size(layer.weight, 1.0) <= LARGE_GAIN * smallest_deviation(var, eps):
        return {}
    gains = {index: abs(scale) / deviation for index, scale, deviation in live(layer, var, eps)}
    sizes = [0.0] * var.numel
    for weight, inner in _weights_before(layer, model):
        for index, value in enumerate(weight.fresh()):
            channel = index // inner % var.numel
            sizes[channel] = max(sizes[channel], abs(value))
    large = _too_large(size * gains.get(index, 0.0) for index, size in enumerate(sizes))
    return {FOLDED: large} if large else {}


def _weights_before(layer: NormLayer, model: Model) -> Iterator[tuple[Tensor, int]]:
    """Weights directly before a layer, and how many elements of one channel lie side by side."""
    if not (layer.knows(NormLayer.calls) and model.knows(Model.order)):
        return
    for node in filter(None, (model.order.producer(data(call)) for call in layer.calls)):
        weight = node.parameters.get("weight")
        if node.kind in LINEAR_OPS and isinstance(weight, Tensor) and len(weight.shape) > 1:
            transposed = node.kind is NodeKind.CONV_TRANSPOSE
            if transposed and node.attributes.get("groups", 1) != 1:
                continue
            last = node.kind is NodeKind.LINEAR and not node.attributes.get("transB")
            yield weight, 1 if last else prod(weight.shape[2 if transposed else 1 :])


def _too_large(values: Iterable[float]) -> dict[int, float]:
    return {index: abs(value) for index, value in enumerate(values) if abs(value) > LARGEST}


def _is_half(layer: NormLayer, model: Model) -> bool | None:
    """Whether the layer runs in float16, by its own tensors, else by most weights of the graph.

    None where a file shows neither.
    """
    own = {each.dtype for each in (layer.get(role, None) for role in ROLES) if each}
    if not own.isdisjoint(ROUNDOFF):
        return "float16" in own
    usual = _usual_dtype(model)
    return None if usual is None else usual == "float16" and not _is_cast(layer, model)


@once_per_model
def _usual_dtype(model: Model) -> str | None:
    if not model.knows(Model.order):
        return None
    weights = (n.parameters.get("weight") for n in model.order.nodes if n.kind in LINEAR_OPS)
    dtypes = Counter(each.dtype for each in weights if isinstance(each, Tensor))
    return next((dtype for dtype, _ in dtypes.most_common(1)), None)


def _is_cast(layer: NormLayer, model: Model) -> bool:
    """Whether every call works on data that was cast to another precision: it is kept out."""
    before = [model.order.producer(data(call)) for call in layer.calls]
    return bool(before) and all(
        node is not None and node.attributes.get("dtype", "float16") != "float16" for node in before
    )
