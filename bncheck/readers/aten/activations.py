"""The parameters of ATen's activations as attributes of nodes, under the names that ONNX's get."""

from __future__ import annotations

from math import inf

from bncheck.readers.aten.call import Call
from bncheck.readers.aten.constants import Constants

# attribute -> (argument, default); a bound that is not given is infinite
_BOUNDS = {"min": ("min", -inf), "max": ("max", inf)}
_PARAMETERS: dict[str, dict[str, tuple[str, float]]] = {
    "leaky_relu": {"negative_slope": ("negative_slope", 0.01)},
    "elu": {"alpha": ("alpha", 1.0)},
    "celu": {"alpha": ("alpha", 1.0)},
    "softplus": {"beta": ("beta", 1.0)},
    "hardtanh": {"min": ("min_val", -1.0), "max": ("max_val", 1.0)},
    "clamp": _BOUNDS,
    "clip": _BOUNDS,
    "clamp_min": _BOUNDS,
    "clamp_max": _BOUNDS,
}
_FIXED: dict[str, dict[str, object]] = {
    "abs": {"homogeneous": True},
    "leaky_relu": {"homogeneous": True},
    "hardsigmoid": {"alpha": 1 / 6, "beta": 0.5},
}


def activation(call: Call, constants: Constants) -> dict[str, object]:
    """All elementwise functions of one value; a parameter that is computed is left out."""
    name = call.op.partition(".")[2]
    given = {
        attribute: call.number(argument, default)
        for attribute, (argument, default) in _PARAMETERS.get(name, {}).items()
    }
    known = {attribute: value for attribute, value in given.items() if value is not None}
    return {**known, **_FIXED.get(name, {})}
