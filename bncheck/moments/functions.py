"""Elementwise functions by the name of their operator, as ONNX, ATen and torch.nn write it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bncheck.graph import Node, NodeKind
from bncheck.moments.distribution import Floats
from bncheck.moments.weights import kept
from bncheck.tensor import Tensor

Function = Callable[[Floats, Node], Floats | None]
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer, arXiv:1706.02515


def apply(node: Node, x: Floats) -> Floats | None:
    """What a RELU or ACTIVATION makes of values; None where the function is not known."""
    if node.kind is NodeKind.RELU:
        return np.maximum(x, 0)
    function = _FUNCTIONS.get(node.op.rpartition(".")[2].replace("_", "").lower())
    return function(x, node) if function else None


def _number(node: Node, name: str) -> float | None:
    value = node.attributes.get(name)
    return float(value) if isinstance(value, int | float) else None


def sigmoid(x: Floats) -> Floats:
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def erf(x: Floats) -> Floats:
    """The error function, to 1.5e-7 (Abramowitz and Stegun, 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series: Floats | float = 1.061405429
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + coefficient
    return np.sign(x) * (1 - series * t * np.exp(-x * x))


def _plain(function: Callable[[Floats], Floats]) -> Function:
    return lambda x, node: function(x)


def _gelu(x: Floats) -> Floats:
    return x * (1 + erf(x / np.sqrt(2))) / 2


def _softplus(x: Floats, beta: float = 1) -> Floats:
    return np.logaddexp(0, beta * x) / beta


def _elu(x: Floats, alpha: float) -> Floats:
    return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0))


def _with(name: str, function: Callable[[Floats, float], Floats]) -> Function:
    """A function that has one parameter."""

    def evaluate(x: Floats, node: Node) -> Floats | None:
        parameter = _number(node, name)
        return None if parameter is None else function(x, parameter)

    return evaluate


def _leaky(x: Floats, slope: float) -> Floats:
    return np.where(x > 0, x, slope * x)


def _clip(x: Floats, node: Node) -> Floats | None:
    low, high = _number(node, "min"), _number(node, "max")
    return None if low is None or high is None else np.clip(x, low, high)


def _hard_sigmoid(x: Floats, node: Node) -> Floats | None:
    slope, offset = _number(node, "alpha"), _number(node, "beta")
    return None if slope is None or offset is None else np.clip(slope * x + offset, 0, 1)


def _with_weight(function: Callable[[Floats, Floats], Floats]) -> Function:
    """A function with a weight: one number, or one for each channel."""

    def evaluate(x: Floats, node: Node) -> Floats | None:
        weight = node.parameters.get("weight")
        if not isinstance(weight, Tensor) or weight.numel not in (1, len(x)) or x.ndim != 2:
            return None
        return function(x, kept(weight).reshape(-1, 1))

    return evaluate


_FUNCTIONS: dict[str, Function] = {
    "sigmoid": _plain(sigmoid),
    "logsigmoid": _plain(lambda x: -_softplus(-x)),
    "tanh": _plain(np.tanh),
    "silu": _plain(lambda x: x * sigmoid(x)),
    "swish": _with("alpha", lambda x, alpha: x * sigmoid(alpha * x)),
    "quickgelu": _with("alpha", lambda x, alpha: x * sigmoid(alpha * x)),
    "gelu": _plain(_gelu),
    "mish": _plain(lambda x: x * np.tanh(_softplus(x))),
    "softplus": _with("beta", _softplus),
    "softsign": _plain(lambda x: x / (1 + np.abs(x))),
    "tanhshrink": _plain(lambda x: x - np.tanh(x)),
    "relu6": _plain(lambda x: np.clip(x, 0, 6)),
    "hardtanh": _clip,
    "clip": _clip,
    "clamp": _clip,
    "clampmin": _clip,
    "clampmax": _clip,
    "hardswish": _plain(lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "hardsigmoid": _hard_sigmoid,
    "leakyrelu": _with("negative_slope", _leaky),
    "prelu": _with_weight(lambda x, slope: np.where(x > 0, x, slope * x)),
    "pow": _with_weight(np.power),
    "elu": _with("alpha", _elu),
    "celu": _with("alpha", lambda x, alpha: _elu(x / alpha, 1) * alpha),
    "selu": _plain(lambda x: SELU_SCALE * _elu(x, SELU_ALPHA)),
    "abs": _plain(np.abs),
    "neg": _plain(np.negative),
    "square": _plain(np.square),
    "exp": _plain(np.exp),
    "erf": _plain(erf),
    "sin": _plain(np.sin),
    "cos": _plain(np.cos),
}
