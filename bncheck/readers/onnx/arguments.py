"""The arguments of ONNX operators, under PyTorch's names and in PyTorch's conventions.

Every function takes an operation and the graph's constants, and leaves out what is not known.
``padding`` of convolutions and pooling is "same" or a tuple: one number for each axis of space, or
twice as many, first those before and then those after, where the two sides differ.
"""

from __future__ import annotations

from collections.abc import Callable

from bncheck.readers.onnx.constants import Constants
from bncheck.readers.onnx.operation import Operation, shortest
from bncheck.readers.onnx.views import axes_of, cast_type, shape_asked_for

Arguments = Callable[[Operation, Constants], dict[str, object]]
TRAINING_IS_AN_ATTRIBUTE, TRAINING_IS_AN_INPUT = 14, 12  # of BatchNormalization, Dropout
LAST_WITH_IS_TEST = 6


def none(operation: Operation, constants: Constants) -> dict[str, object]:
    """For operators whose arguments no rule needs."""
    return {}


def convolution(operation: Operation, constants: Constants) -> dict[str, object]:
    """Conv and ConvTranspose."""
    return {
        "groups": operation.integer("group", 1),
        **_window(operation),
        **_known(output_padding=operation.integers("output_padding")),
    }


def pooling(operation: Operation, constants: Constants) -> dict[str, object]:
    """MaxPool and AveragePool."""
    return {
        **_window(operation),
        "ceil_mode": operation.flag("ceil_mode"),
        "count_include_pad": operation.flag("count_include_pad"),
    }


def global_pooling(operation: Operation, constants: Constants) -> dict[str, object]:
    """GlobalMaxPool and GlobalAveragePool."""
    return {"output_size": 1}


def _window(operation: Operation) -> dict[str, object]:
    return {
        "padding": _padding(operation),
        **_known(
            kernel_size=operation.integers("kernel_shape"),
            stride=operation.integers("strides"),
            dilation=operation.integers("dilations"),
        ),
    }


def _padding(operation: Operation) -> str | tuple[int, ...]:
    if operation.text("auto_pad", "NOTSET").startswith("SAME"):
        return "same"
    pads = operation.integers("pads") or ()
    half = len(pads) // 2
    return pads[:half] if pads[:half] == pads[half:] else pads


def _known(**arguments: object) -> dict[str, object]:
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
    """MatMul, as the Gemm that it is."""
    return {"transA": False, "transB": False, "alpha": 1.0, "beta": 1.0}


def batch_norm(operation: Operation, constants: Constants) -> dict[str, object]:
    """BatchNormalization; ONNX's momentum is the weight of the old statistics."""
    arguments = {
        **eps(operation, constants),
        "momentum": round(1 - operation.real("momentum", 0.9), 9),
        "training": _batch_norm_trains(operation),
    }
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
    return {**eps(operation, constants), **_known(num_groups=groups)}


def layer_norm(operation: Operation, constants: Constants) -> dict[str, object]:
    """LayerNormalization and RMSNormalization: ``axis`` is the first of the normalized ones."""
    return {**eps(operation, constants), "axis": operation.integer("axis", -1)}


def local_response_norm(operation: Operation, constants: Constants) -> dict[str, object]:
    """LRN; PyTorch calls the bias k."""
    return {
        **_known(size=operation.integer("size", None)),
        "alpha": operation.real("alpha", 1e-4),
        "beta": operation.real("beta", 0.75),
        "k": operation.real("bias", 1.0),
    }


def dropout(operation: Operation, constants: Constants) -> dict[str, object]:
    """Dropout; whether it is active is an argument only before opset 7 and since opset 12."""
    if operation.version < TRAINING_IS_AN_INPUT:
        active = operation.version <= LAST_WITH_IS_TEST and not operation.flag("is_test")
        return {"p": operation.real("ratio", 0.5), "training": active}
    training = _scalar(operation, 2, constants, 0.0)
    return _known(
        p=_scalar(operation, 1, constants, 0.5),
        training=None if training is None else training != 0,
    )


def _scalar(
    operation: Operation, position: int, constants: Constants, default: float
) -> float | None:
    if not operation.operand(position):
        return default
    numbers = constants.numbers(operation.operand(position))
    return shortest(numbers[0]) if numbers and len(numbers) == 1 else None


def elementwise(operation: Operation, constants: Constants) -> dict[str, object]:
    """Add, Sub, Mul and Div. ``reversed``: a constant from which, or by which, data is taken.

    ``axis`` is given where opset 6 or older broadcasts the second operand from that axis on.
    """
    left = operation.op in ("Sub", "Div") and operation.operand(1) not in constants
    taken = left and operation.operand(0) in constants
    return _known(reversed=taken or None, axis=operation.integer("axis", None))


def cast(operation: Operation, constants: Constants) -> dict[str, object]:
    """Cast."""
    return {"dtype": cast_type(operation)}


def resize(operation: Operation, constants: Constants) -> dict[str, object]:
    """Resize and Upsample; the mode is "nearest", "linear" or "cubic"."""
    return {"mode": operation.text("mode", "nearest")}


def pad(operation: Operation, constants: Constants) -> dict[str, object]:
    """Pad; ``padding`` covers all axes, or ``axes`` of them: all before, then all after."""
    name = "paddings" if operation.version < 2 else "pads"
    old = operation.version < 11
    mode = operation.text("mode", "constant")
    return _known(
        mode={"edge": "replicate", "wrap": "circular"}.get(mode, mode),
        padding=operation.integers(name) if old else constants.integers(operation.operand(1)),
        value=operation.real("value", 0.0) if old else _scalar(operation, 2, constants, 0.0),
        axes=constants.integers(operation.operand(3)),
    )


def axis(operation: Operation, constants: Constants) -> dict[str, object]:
    """Concat, Split, Gather: the axis at which they join or part."""
    default = 1 if operation.op in ("Concat", "QuantizeLinear", "DequantizeLinear") else 0
    return {"axis": operation.integer("axis", default)}


def cut(operation: Operation, constants: Constants) -> dict[str, object]:
    """Slice: attributes before opset 10, inputs since."""
    names = ("starts", "ends", "axes", "steps")
    if operation.version < 10:
        return _known(**{name: operation.integers(name) for name in names})
    values = (constants.integers(operation.operand(i)) for i in range(1, 5))
    return _known(**dict(zip(names, values, strict=True)))


def reshape(operation: Operation, constants: Constants) -> dict[str, object]:
    """Reshape: the shape that is asked for, with 0 for "as it was" and -1 for "the rest"."""
    return _known(shape=shape_asked_for(operation, constants.integers))


def flatten(operation: Operation, constants: Constants) -> dict[str, object]:
    """Flatten: two dimensions, parted before the axis."""
    return {"axis": operation.integer("axis", 1)}


def squeeze(operation: Operation, constants: Constants) -> dict[str, object]:
    """Squeeze and Unsqueeze."""
    return _known(axes=axes_of(operation, constants.integers))


def transpose(operation: Operation, constants: Constants) -> dict[str, object]:
    """Transpose; without ``perm`` it reverses the axes."""
    return _known(perm=operation.integers("perm"))


def shuffle(operation: Operation, constants: Constants) -> dict[str, object]:
    """DepthToSpace and SpaceToDepth."""
    return {
        "block_size": operation.integer("blocksize", 1),
        "mode": operation.text("mode", "DCR"),
    }


def mean(operation: Operation, constants: Constants) -> dict[str, object]:
    """ReduceMean; without axes it reduces all, or (``noop_with_empty_axes``) none."""
    return {
        "keepdim": operation.flag("keepdims", True),
        **_known(axes=axes_of(operation, constants.integers)),
    }
