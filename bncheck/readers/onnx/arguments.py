"""The arguments of ONNX operators as the attributes that bncheck.graph tells of.

Every function takes an operation and the graph's constants, and leaves out what is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bncheck.readers.conventions import same_padding
from bncheck.readers.onnx.constants import Constants
from bncheck.readers.onnx.operation import Operation, shortest
from bncheck.readers.onnx.views import axes_of, cast_type

Arguments = Callable[[Operation, Constants], dict[str, object]]
TRAINING_IS_AN_ATTRIBUTE, TRAINING_IS_AN_INPUT = 14, 12  # of BatchNormalization, Dropout
LAST_WITH_IS_TEST = 6
OUTDATED = ("is_test", "spatial", "consumed_inputs")  # attributes that BatchNormalization had once


def none(operation: Operation, constants: Constants) -> dict[str, object]:
    """For operators whose arguments no rule needs."""
    return {}


def convolution(operation: Operation, constants: Constants) -> dict[str, object]:
    """Conv."""
    weight = constants.get(operation.operand(1))
    size = weight.shape[2:] if weight else None
    return {"groups": operation.integer("group", 1), **_window(operation, size)}


def transposed_convolution(operation: Operation, constants: Constants) -> dict[str, object]:
    """ConvTranspose; where it asks for an ``output_shape``, that decides on the padding."""
    found = convolution(operation, constants)
    if operation.integers("output_shape") is not None:
        return {name: value for name, value in found.items() if name != "padding"}
    added = operation.integers("output_padding") or (0,) * _rank(found)
    return {**found, **({"output_padding": added} if added else {})}


def _rank(window: Mapping[str, object]) -> int:
    size = window.get("kernel_size")
    return len(size) if isinstance(size, tuple) else 0


def pooling(operation: Operation, constants: Constants) -> dict[str, object]:
    """MaxPool and AveragePool."""
    return {
        **_window(operation, None),
        "ceil_mode": operation.flag("ceil_mode"),
        "count_include_pad": operation.flag("count_include_pad"),
    }


def global_pooling(operation: Operation, constants: Constants) -> dict[str, object]:
    """GlobalMaxPool and GlobalAveragePool."""
    return {"output_size": 1}


def _window(operation: Operation, weight: tuple[int, ...] | None) -> dict[str, object]:
    """A window as large as the operation says, else as its weight is."""
    size = operation.integers("kernel_shape") or weight
    ones = (1,) * len(size) if size else None
    stride = operation.integers("strides") or ones
    dilation = operation.integers("dilations") or ones
    return known(
        kernel_size=size,
        stride=stride,
        dilation=dilation,
        padding=_padding(operation, size, stride, dilation),
    )


Window = tuple[int, ...] | None


def _padding(
    operation: Operation, size: Window, stride: Window, dilation: Window
) -> str | tuple[int, ...] | None:
    word = operation.text("auto_pad", "NOTSET")
    if word.startswith("SAME"):
        return _same_padding(word, size, stride, dilation)
    pads = operation.integers("pads")
    if not pads or word == "VALID":
        return None if size is None else (0,) * len(size)
    half = len(pads) // 2
    return pads[:half] if pads[:half] == pads[half:] else pads


def _same_padding(
    word: str, size: Window, stride: Window, dilation: Window
) -> str | tuple[int, ...]:
    if not size or not dilation or not stride or set(stride) != {1}:
        return "same"
    sides = same_padding(size, dilation)
    if word == "SAME_UPPER" or len(sides) == len(size):
        return sides
    return (*sides[len(size) :], *sides[: len(size)])


def known(**arguments: object) -> dict[str, object]:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def gemm(operation: Operation, constants: Constants) -> dict[str, object]:
    """Gemm under ONNX's own names: y = alpha · A·B + beta · C."""
    return {
        "transA": operation.flag("transA"),
        "transB": operation.flag("transB"),
        "alpha": operation.real("alpha", 1.0),
        "beta": operation.real("beta", 1.0),
    }


def matmul(operation: Operation, constants: Constants) -> dict[str, object]:
    """MatMul, as the Gemm that it is, but without a place for a bias."""
    return {"transA": False, "transB": False, "alpha": 1.0}


def upright_matmul(operation: Operation, constants: Constants) -> dict[str, object]:
    """MatMul whose right side is the transpose of what is stored."""
    return {**matmul(operation, constants), "transB": True}


def batch_norm(operation: Operation, constants: Constants) -> dict[str, object]:
    """BatchNormalization; ONNX's momentum is the weight of the old statistics."""
    arguments = {
        **eps(operation, constants),
        "momentum": round(1 - operation.real("momentum", 0.9), 9),
        "training": _batch_norm_trains(operation),
        "version": operation.version,
    }
    outdated = tuple(name for name in OUTDATED if name in operation.attributes)
    if outdated:
        arguments["outdated"] = outdated
    return arguments if operation.flag("spatial", True) else {**arguments, "spatial": False}


def _batch_norm_trains(operation: Operation) -> bool:
    if operation.version >= TRAINING_IS_AN_ATTRIBUTE:
        return operation.flag("training_mode")
    if operation.version > LAST_WITH_IS_TEST:
        return sum(map(bool, operation.outputs)) > 1
    return not operation.flag("is_test")


def eps(operation: Operation, constants: Constants) -> dict[str, object]:
    """Every operator of ONNX's own that has an epsilon has this default."""
    return {"eps": operation.real("epsilon", 1e-5)}


def skip_eps(operation: Operation, constants: Constants) -> dict[str, object]:
    """onnxruntime's fused layer normalizations have another default."""
    return {"eps": operation.real("epsilon", 1e-12)}


def group_norm(operation: Operation, constants: Constants) -> dict[str, object]:
    """GroupNormalization, and GroupNorm of onnxruntime."""
    groups = operation.integer("num_groups", None) or operation.integer("groups", None)
    return {**eps(operation, constants), **known(num_groups=groups)}


def layer_norm(operation: Operation, constants: Constants) -> dict[str, object]:
    """LayerNormalization and RMSNormalization: ``axis`` is the first of the normalized ones."""
    return {**eps(operation, constants), "axis": operation.integer("axis", -1)}


def local_response_norm(operation: Operation, constants: Constants) -> dict[str, object]:
    """LRN; PyTorch calls the bias k."""
    return {
        **known(size=operation.integer("size", None)),
        "alpha": operation.real("alpha", 1e-4),
        "beta": operation.real("beta", 0.75),
        "k": operation.real("bias", 1.0),
    }


def dropout(operation: Operation, constants: Constants) -> dict[str, object]:
    """Dropout; whether it is active is an argument only before opset 7 and since opset 12."""
    if operation.version < TRAINING_IS_AN_INPUT:
        active = operation.version <= LAST_WITH_IS_TEST and not operation.flag("is_test")
        return {"p": operation.real("ratio", 0.5), "training": active}
    training = scalar(operation, 2, constants, 0.0)
    return known(
        p=scalar(operation, 1, constants, 0.5),
        training=None if training is None else training != 0,
    )


def scalar(
    operation: Operation, position: int, constants: Constants, default: float
) -> float | None:
    if not operation.operand(position):
        return default
    numbers = constants.numbers(operation.operand(position))
    return shortest(numbers[0]) if numbers and len(numbers) == 1 else None


def instance_norm(operation: Operation, constants: Constants) -> dict[str, object]:
    """InstanceNormalization, which keeps no statistics."""
    return {**eps(operation, constants), "use_input_stats": True}


def homogeneous(operation: Operation, constants: Constants) -> dict[str, object]:
    """For functions that a positive factor passes through."""
    return {"homogeneous": True}


def elementwise(operation: Operation, constants: Constants) -> dict[str, object]:
    """Add, Sub, Mul and Div of data and a constant, or of two data."""
    subtract, divide = operation.op == "Sub", operation.op == "Div"
    taken = (subtract or divide) and operation.operand(1) not in constants
    return known(
        subtract=subtract or None,
        divide=divide or None,
        reversed=(taken and operation.operand(0) in constants) or None,
        axis=operation.integer("axis", None),
    )


def cast(operation: Operation, constants: Constants) -> dict[str, object]:
    """Cast."""
    return {"dtype": cast_type(operation)}


def mean(operation: Operation, constants: Constants) -> dict[str, object]:
    """ReduceMean; without axes it reduces all, or (``noop_with_empty_axes``) none."""
    return {
        "keepdim": operation.flag("keepdims", True),
        **known(axes=axes_of(operation, constants.integers)),
    }
