"""The parameters of ONNX's activations as attributes of nodes, under PyTorch's names."""

from __future__ import annotations

from math import inf

from bncheck.readers.onnx.constants import Constants
from bncheck.readers.onnx.operation import Operation

BOUNDS_ARE_INPUTS = 11  # of Clip, since this opset
# operator -> attribute of the node -> (attribute of the operator, default)
_PARAMETERS: dict[str, dict[str, tuple[str, float]]] = {
    "LeakyRelu": {"negative_slope": ("alpha", 0.01)},
    "Elu": {"alpha": ("alpha", 1.0)},
    "Celu": {"alpha": ("alpha", 1.0)},
    "Swish": {"alpha": ("alpha", 1.0)},
    "QuickGelu": {"alpha": ("alpha", 1.702)},
    "HardSigmoid": {"alpha": ("alpha", 0.2), "beta": ("beta", 0.5)},
}
_FIXED: dict[str, dict[str, object]] = {
    "Abs": {"homogeneous": True},
    "LeakyRelu": {"homogeneous": True},
    "Softplus": {"beta": 1.0},
}


def activation(operation: Operation, constants: Constants) -> dict[str, object]:
    """All elementwise functions of one value; a parameter that is computed is left out."""
    if operation.op == "Clip":
        return _bounds(operation, constants)
    held = _PARAMETERS.get(operation.op, {})
    given = {name: operation.real(own, default) for name, (own, default) in held.items()}
    return {**given, **_FIXED.get(operation.op, {})}


def _bounds(operation: Operation, constants: Constants) -> dict[str, object]:
    """A bound that is not given is infinite."""
    if operation.version < BOUNDS_ARE_INPUTS:
        return {"min": operation.real("min", -inf), "max": operation.real("max", inf)}
    given = {"min": _bound(operation, 1, constants, -inf)}
    given["max"] = _bound(operation, 2, constants, inf)
    return {name: bound for name, bound in given.items() if bound is not None}


def _bound(
    operation: Operation, position: int, constants: Constants, default: float
) -> float | None:
    if not operation.operand(position):
        return default
    numbers = constants.numbers(operation.operand(position))
    return float(numbers[0]) if numbers and len(numbers) == 1 else None
