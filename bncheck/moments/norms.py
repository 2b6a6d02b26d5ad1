"""The outputs of normalization layers, whose distribution their own parameters tell."""

from __future__ import annotations

import numpy as np

from bncheck.facts import UnknownFact
from bncheck.graph import Node, NodeKind
from bncheck.moments.distribution import Channels, Floats, normal
from bncheck.moments.weights import kept
from bncheck.tensor import Tensor

MOST_CHANNELS = 2**16  # each takes as many numbers as there are NODES
IDENTITY = 1e-3  # of a standard deviation: how far an identity may be off
FROZEN = 1e-3  # how far a variance may lie below 1 that a frozen BatchNorm was made with


def normalized(node: Node, x: Channels | None) -> Channels | None:
    """What a BATCH_NORM or INSTANCE_NORM makes; None where its statistics were never taken.

    A BatchNorm that does nothing, as folding may leave it, lets its input through.
    """
    tensors = {role: t for role, t in node.parameters.items() if isinstance(t, Tensor)}
    held = {role: kept(tensor) for role, tensor in tensors.items()}
    sizes = {each.size for each in held.values()}
    if len(held) < len(node.parameters) or len(sizes) != 1 or max(sizes) > MOST_CHANNELS:
        return None
    (size,) = sizes
    weight, bias = held.get("weight", np.ones(size)), held.get("bias", np.zeros(size))
    if _takes_the_batch(node) or "running_var" not in held or "running_mean" not in held:
        return normal(bias, np.abs(weight))
    mean, var = held["running_mean"], held["running_var"]
    if is_initial(mean, var):
        return None
    return _with_statistics(node, x, weight, bias, mean, var)


def _takes_the_batch(node: Node) -> bool:
    instance = node.kind is NodeKind.INSTANCE_NORM
    if instance:
        return node.attributes.get("use_input_stats") is not False
    return node.attributes.get("training") is True


def has_initial_statistics(node: Node) -> bool:
    """Whether a BATCH_NORM's statistics are initial; not where the file does not hold them."""
    mean, var = (node.parameters.get(name) for name in ("running_mean", "running_var"))
    if not isinstance(mean, Tensor) or not isinstance(var, Tensor):
        return False
    try:
        return is_initial(kept(mean), kept(var))
    except UnknownFact:
        return False


def is_initial(mean: Floats, var: Floats) -> bool:
    """Whether statistics are those that a layer starts with, or that a frozen one was made with."""
    return bool(not mean.any() and np.all((var >= 1 - FROZEN) & (var <= 1)))


def _with_statistics(
    node: Node, x: Channels | None, weight: Floats, bias: Floats, mean: Floats, var: Floats
) -> Channels | None:
    eps = node.attributes.get("eps")
    if not isinstance(eps, int | float):
        return None
    scale = weight / np.sqrt(var + eps)
    if does_nothing(scale, bias - scale * mean, var):
        return x
    live = np.where(var > 0, np.sqrt(var / (var + eps)), var * 0)
    return normal(bias, np.abs(weight) * live)


def does_nothing(scale: Floats, shift: Floats, var: Floats) -> bool:
    """Whether y = scale * x + shift is x."""
    return bool(
        np.all(np.abs(scale - 1) < IDENTITY) and np.all(shift**2 <= IDENTITY**2 * np.abs(var))
    )
