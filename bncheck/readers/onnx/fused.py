"""onnxruntime's fused operators, written out as the simpler ones that they stand for.

A fused operator keeps its name and its weights, and loses what it does after (an addition, an
activation) or before (a bias); those become operations of their own, so that whoever follows
channels or looks for a bias sees the truth. What is not certain stays one opaque operation.
Their definitions: onnxruntime/core/graph/contrib_ops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from bncheck.facts import Unknown
from bncheck.graph import NodeKind
from bncheck.readers.onnx import arguments as read
from bncheck.readers.onnx import nodes
from bncheck.readers.onnx.attribute import Attribute, Held
from bncheck.readers.onnx.constants import Constants
from bncheck.readers.onnx.nodes import MICROSOFT, OPAQUE, Choice, Shapes, Signature
from bncheck.readers.onnx.operation import Operation

NCHWC = "com.microsoft.nchwc"  # data and weights in blocks of channels, for one kind of processor
FusedName = tuple[str, str]
NewName = Callable[[str], str]

# What is added to the result, before the activation
_SUMMAND: Mapping[FusedName, int] = {(MICROSOFT, "FusedConv"): 3, (NCHWC, "Conv"): 3}
_GEMM = MICROSOFT, "FusedGemm"
_WITH_ACTIVATION = frozenset({*_SUMMAND, _GEMM})
_BIAS_FIRST = frozenset({(MICROSOFT, "BiasGelu"), (MICROSOFT, "FastGelu")})
# Activations that may be fused, with their parameters
_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("Relu", "Sigmoid", "Tanh"), ()),
    "LeakyRelu": ("alpha",),
    "Clip": ("min", "max"),
    "HardSigmoid": ("alpha", "beta"),
}
_VERSION = 6  # the last in which all parameters of activations are attributes
_Step = tuple[str, tuple[str, ...], Mapping[str, Attribute]]  # operator, further inputs, attributes


def unfused(operation: Operation, new_name: NewName) -> Iterator[Operation]:
    """The operations that an operation stands for, in order; nearly always itself.

    ``new_name`` makes a name, for the value between two of them, that nothing else has.
    """
    key = operation.domain, operation.op
    makes_one_value = len(operation.outputs) == 1 and operation.outputs[0] != ""
    if operation.opaque or not operation.domain or not makes_one_value:
        yield operation
    elif key in _BIAS_FIRST and operation.operand(1):
        between = new_name(operation.outputs[0])
        yield _plain(operation, ("Add", operation.inputs[1:2], {}), operation.inputs[0], between)
        yield replace(operation, inputs=(between,), proto=None)
    elif key in _WITH_ACTIVATION:
        yield from _parts(operation, new_name)
    else:
        yield operation


def _parts(operation: Operation, new_name: NewName) -> Iterator[Operation]:
    position = _SUMMAND.get((operation.domain, operation.op), len(operation.inputs))
    summand, activation = operation.operand(position), operation.text("activation", "")
    parameters = _parameters(operation, activation)
    if parameters is None:
        yield replace(operation, opaque=True)
        return
    steps: list[_Step] = [("Add", (summand,), {})] if summand else []
    steps += [(activation, (), parameters)] if activation else []
    if not steps:
        yield operation
        return
    values = [*(new_name(operation.outputs[0]) for _ in steps), operation.outputs[0]]
    inputs = operation.inputs[:position]
    yield replace(operation, inputs=inputs, outputs=(values[0],), proto=None)
    for step, value, result in zip(steps, values, values[1:], strict=False):
        yield _plain(operation, step, value, result)


def _parameters(operation: Operation, activation: str) -> Mapping[str, Attribute] | None:
    """The attributes of an activation; None where it is not known, or they do not fit."""
    names = _ACTIVATIONS.get(activation, ()) if activation else ()
    if activation and activation not in _ACTIVATIONS:
        return None
    if (operation.domain, operation.op) == _GEMM:
        given = {name: operation.attributes.get(f"activation_{name}") for name in names}
        return {name: attribute for name, attribute in given.items() if attribute}
    held = operation.attributes.get("activation_params")
    values = held.value if held and isinstance(held.value, tuple) else ()
    if len(values) != len(names):
        return None
    return {
        name: Attribute(name, Held.FLOAT, float(value))
        for name, value in zip(names, values, strict=True)
        if isinstance(value, float)
    }


def _plain(operation: Operation, step: _Step, value: str, result: str) -> Operation:
    op, others, attributes = step
    return Operation(op, "", _VERSION, operation.name, (value, *others), (result,), attributes)


def signature(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
    """How to read what ``unfused`` gives, and all other operations; see nodes.signature."""
    entry = None if operation.opaque else _TABLE.get((operation.domain, operation.op))
    if entry is None:
        return nodes.signature(operation, constants, shapes)
    return entry if isinstance(entry, Signature) else entry(operation, constants, shapes)


def _as_in_onnx(op: str) -> Choice:
    def choose(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
        entry = nodes.TABLE["", op]
        return entry if isinstance(entry, Signature) else entry(operation, constants, shapes)

    return choose


def _matmul(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
    """A MatMul that is written like a Gemm, as long as it leaves the axes of the batch alone."""
    if operation.flag("transBatchA") or operation.flag("transBatchB"):
        return OPAQUE
    return _as_in_onnx("Gemm")(operation, constants, shapes)


def _reorder(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
    return OPAQUE if operation.flag("channels_last") else Signature(NodeKind.IDENTITY)


_POOLING = ("MaxPool", "GlobalMaxPool", "AveragePool", "GlobalAveragePool", "Upsample")
_TABLE: Mapping[FusedName, Signature | Choice] = {
    (MICROSOFT, "FusedConv"): _as_in_onnx("Conv"),
    (MICROSOFT, "FusedGemm"): _as_in_onnx("Gemm"),
    (MICROSOFT, "FusedMatMul"): _matmul,
    (MICROSOFT, "TransposeMatMul"): _matmul,  # its name of old
    (MICROSOFT, "BiasGelu"): Signature(NodeKind.ACTIVATION),
    (MICROSOFT, "FastGelu"): Signature(NodeKind.ACTIVATION),
    (NCHWC, "Conv"): Signature(
        NodeKind.CONV,
        roles={2: "bias"},
        arguments=read.convolution,
        held={"weight": Unknown("weight", "stored in blocks, as one kind of processor reads it")},
    ),
    (NCHWC, "ReorderInput"): _reorder,
    (NCHWC, "ReorderOutput"): _reorder,
    **{(NCHWC, op): _as_in_onnx(op) for op in _POOLING},
}
