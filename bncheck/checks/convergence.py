"""BN2xx: how many batches the running statistics come from, as num_batches_tracked tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import ceil, log, log1p

from bncheck.checks.defaults import momentum_evidence, momentum_or_default
from bncheck.checks.memory import once_per_model
from bncheck.facts import Unknown, UnknownFact
from bncheck.finding import Level, Observation
from bncheck.model import Kind, Model, NormLayer
from bncheck.tensor import Tensor

ROUNDING = 0.99  # what many roundings may take from a product
COUNTING: frozenset[Kind] = frozenset({"batch", "sync-batch"})
NO_COUNTER = Unknown(
    "batch counter",
    "the layer has none",
    "give the checkpoint of the training, with num_batches_tracked",
)


def statistics_not_converged(
    layer: NormLayer, model: Model, *, limit: float = 0.01, warn: float = 0.5
) -> Iterator[Observation]:
    """BN205: statistics in which the initial values weigh over ``limit``, or even ``warn``."""
    var = layer.running_var
    if layer.running_mean is None or var is None:
        return
    count, momentum = _count(layer), _momentum(layer, model)
    left = _initial_weight(count, momentum)
    if momentum is None or left <= limit or count in _restarted(model):
        return
    assumed = not layer.knows(NormLayer.momentum)
    yield Observation(
        f"Counted {count} batches at momentum {momentum:.4g}{' (assumed)' * assumed}: "
        f"{100 * left:.3g}% "
        "of the statistics are still the initial mean 0 and variance 1, which inference takes for "
        f"data{_needed(limit, momentum)}.",
        {"num_batches_tracked": count, **momentum_evidence(layer), "initial_weight": left},
        Level.INFO if assumed or left <= warn else None,
    )


def _needed(limit: float, momentum: float) -> str:
    """After how many batches the initial values would weigh no more than the limit, in words."""
    if not 0 < limit < 1 or 1 - momentum == 1:
        return ""
    return f" ({100 * limit:.3g}% after {ceil(log(limit) / log1p(-momentum))} batches)"


def _count(layer: NormLayer) -> int:
    """How many batches a layer counted. Raises UnknownFact where it has no counter."""
    count = layer.counter
    if count is None:
        raise UnknownFact(NO_COUNTER)
    return count


def _momentum(layer: NormLayer, model: Model) -> float | None:
    """The momentum, PyTorch's default in a state_dict; a graph would have it, were it one."""
    if model.content == "graph":
        return layer.momentum
    return momentum_or_default(layer)


def _initial_weight(count: int, momentum: float | None) -> float:
    """(1 - momentum) ** count; 0 where there is no count, or no moving average."""
    if count <= 0 or momentum is None or not 0 < momentum < 1:
        return 0.0
    return (1 - momentum) ** count


@once_per_model
def _restarted(model: Model) -> frozenset[int]:
    """The counts of layers that did not start from a variance of 1.

    From there no running_var can fall faster than by 1 - momentum a batch. Layers of one count were
    trained together, so that one of them tells how all began.
    """
    return frozenset(_counts_below(model))


def _counts_below(model: Model) -> Iterator[int]:
    for layer in model.batch_norms:
        count, var = _known_count(layer), layer.get(NormLayer.running_var, None)
        if count is not None and var is not None:
            left = _initial_weight(count, momentum_or_default(layer))
            if _lowest(var) < ROUNDING * left:
                yield count


def _lowest(var: Tensor) -> float:
    """The smallest variance; infinite where the file does not give its values."""
    try:
        return var.minimum
    except UnknownFact:
        return float("inf")


def _known_count(layer: NormLayer) -> int | None:
    try:
        return layer.counter
    except UnknownFact:
        return None


def batch_count_inconsistent(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN206: a layer that counted no batch, or a multiple or fraction of what most others did."""
    count, (usual, layers) = _count(layer), _usual(model)
    if count == usual or not usual or not _counts_with_others(layer):
        return
    most = f"{layers} {'layer' if layers == 1 else 'layers'} counted {usual}"
    if count == 0 and not _is_switched_off(layer, model):
        yield _uneven(
            f"Counted no batch, while {most}: frozen, loaded without its counter, or no part of "
            "the forward pass in training.",
            count,
            usual,
        )
    elif count and max(count, usual) % min(count, usual) == 0:
        times = max(count, usual) // min(count, usual)
        yield _uneven(
            f"Counted {count} batches, while {most}: a factor of {times}, as where a layer runs "
            "several times in each step (shared, or recomputed by checkpointing).",
            count,
            usual,
        )


def _uneven(message: str, count: int, usual: int) -> Observation:
    return Observation(message, {"num_batches_tracked": count, "usual": usual})


@once_per_model
def _usual(model: Model) -> tuple[int, int]:
    """The count that most layers have, the smallest of several, and how many have it; else 0, 0."""
    counts = Counter(_known_count(layer) for layer in model.layers if _counts_with_others(layer))
    found = [(number, -count) for count, number in counts.items() if count]
    number, count = max(found, default=(0, 0))
    return -count, number


def _counts_with_others(layer: NormLayer) -> bool:
    """Whether a layer that is trained with the rest would count what the rest does."""
    if layer.kind not in COUNTING or not layer.get(NormLayer.track_running_stats, True):
        return False
    return layer.get(NormLayer.requires_grad, True) or not layer.get(NormLayer.affine, True)


def _is_switched_off(layer: NormLayer, model: Model) -> bool:
    """Whether a layer is in eval mode beside others in training mode: so BatchNorm is frozen."""
    return not layer.get(NormLayer.training, True) and any(
        other.get(NormLayer.training, False) for other in model.batch_norms
    )
