"""BN3xx: how many samples the running statistics come from."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

from bncheck.facts import Unknown, UnknownFact
from bncheck.finding import Level, Observation
from bncheck.model import BatchSize, Model, NormLayer

DEVICES = Unknown(
    "batch size",
    "SyncBatchNorm takes its statistics from all devices, and their number is not in this file",
)


def tiny_batch(model: Model, *, warn: int = 4, info: int = 16) -> Iterator[Observation]:
    """BN301: at most ``warn`` samples a batch (or fewer than ``info``) behind the statistics."""
    layers = [layer for layer in model.batch_norms if _takes_statistics(layer)]
    if not layers or model.batch_size.samples >= info:
        return
    if all(layer.kind == "sync-batch" for layer in layers):
        raise UnknownFact(DEVICES)
    size = model.batch_size
    yield Observation(
        f"Statistics come from batches of {size.samples} ({size.source}): {_errors(size)}.",
        _evidence(size),
        Level.WARNING if size.samples <= warn else Level.INFO,
    )


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
