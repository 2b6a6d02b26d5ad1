"""ONNX operators in bncheck's vocabulary.

``inputs`` of a node are its data, then whatever else of it is computed in the graph: a weight that
is no constant is both a parameter that is Unknown and an input, so that its maker has a consumer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from bncheck.facts import Unknown
from bncheck.graph import Node, NodeKind, Shape
from bncheck.model import Kind
from bncheck.readers.conventions import settled
from bncheck.readers.onnx import arguments as read
from bncheck.readers.onnx import arrangement as arrange
from bncheck.readers.onnx.activations import activation
from bncheck.readers.onnx.constants import Constants
from bncheck.readers.onnx.operation import Operation
from bncheck.readers.onnx.views import axes_of, cast_type
from bncheck.tensor import Tensor

FLOATS = frozenset({"float64", "float32", "float16", "bfloat16"})
MICROSOFT = "com.microsoft"
WEIGHT_AND_BIAS = {1: "weight", 2: "bias"}
BATCH = {**WEIGHT_AND_BIAS, 3: "running_mean", 4: "running_var"}


@dataclass(frozen=True, slots=True)
class Signature:
    """How to read an operator: which operands are data (None: all), which are parameters.

    ``held`` are parameters that no operand is as it stands.
    """

    kind: NodeKind
    data: tuple[int, ...] | None = (0,)
    roles: Mapping[int, str] = field(default_factory=dict)
    arguments: read.Arguments = read.none
    norm: Kind | None = None
    held: Mapping[str, Tensor | Unknown] = field(default_factory=dict)


Shapes = Mapping[str, Shape]
Choice = Callable[[Operation, Constants, Shapes], Signature]
OPAQUE = Signature(NodeKind.OPAQUE, None)


def signature(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
    """How an operation is to be read, given which of its operands are constant."""
    if operation.opaque:
        return OPAQUE
    entry = TABLE.get((operation.domain, operation.op), OPAQUE)
    return entry if isinstance(entry, Signature) else entry(operation, constants, shapes)


def node(operation: Operation, how: Signature, constants: Constants, shapes: Shapes) -> Node:
    """An operation as a node of the graph."""
    made = Node(
        kind=how.kind,
        op=operation.op,
        name=operation.name,
        inputs=_inputs(operation, how, constants),
        outputs=operation.outputs,
        parameters={**dict(_parameters(operation, how, constants)), **how.held},
        attributes=how.arguments(operation, constants),
    )
    return settled(made, shapes)


def _parameters(
    operation: Operation, how: Signature, constants: Constants
) -> Iterator[tuple[str, Tensor | Unknown]]:
    for position, role in how.roles.items():
        name = operation.operand(position)
        if name:
            held = constants.get(name)
            yield role, held or Unknown(role, "it is computed in the graph, not stored")


def _inputs(operation: Operation, how: Signature, constants: Constants) -> tuple[str, ...]:
    if how.data is None:
        return operation.inputs
    computed = (
        name
        for position, name in enumerate(operation.inputs)
        if name and position not in how.data and name not in constants
    )
    return (*map(operation.operand, how.data), *computed)


def _gemm(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
    if operation.operand(1) in constants:
        return Signature(NodeKind.LINEAR, (0,), WEIGHT_AND_BIAS, read.gemm)
    if operation.operand(0) in constants:
        return OPAQUE  # the constant gives the rows of the output: not its last axis
    return Signature(NodeKind.MATMUL, (0, 1), {2: "bias"}, read.gemm)


def _matmul(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
    right = constants.get(operation.operand(1))
    if right is not None and len(right.shape) > 1:
        stored = constants.transposed(operation.operand(1))
        if stored is not None:
            held = {"weight": stored}
            return Signature(NodeKind.LINEAR, (0,), {}, read.upright_matmul, held=held)
        return Signature(NodeKind.LINEAR, (0,), {1: "weight"}, read.matmul)
    if right is not None or operation.operand(0) in constants:
        return OPAQUE
    return Signature(NodeKind.MATMUL, (0, 1), arguments=read.matmul)


def _with_constant(kind: NodeKind, role: str) -> Choice:
    def choose(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
        if operation.operand(1) in constants:
            return Signature(kind, (0,), {1: role}, read.elementwise)
        if operation.operand(0) in constants:
            return Signature(kind, (1,), {0: role}, read.elementwise)
        return Signature(kind, (0, 1), arguments=read.elementwise)

    return choose


def _sum(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
    if len(operation.inputs) == 2:
        return _with_constant(NodeKind.ADD, "bias")(operation, constants, shapes)
    return Signature(NodeKind.ADD if len(operation.inputs) > 1 else NodeKind.IDENTITY, None)


def _cast(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
    kind = NodeKind.IDENTITY if cast_type(operation) in FLOATS else NodeKind.ACTIVATION
    return Signature(kind, arguments=read.cast)


def _gather(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
    if operation.operand(0) in constants:
        return OPAQUE  # an embedding: its data are the indices
    return Signature(NodeKind.SPLIT, arguments=arrange.gather)


def _resize(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
    """What mixes values of one channel; a crop puts others in where it reaches over the edge."""
    crops = operation.text("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    scales = constants.numbers(operation.operand(1 if operation.version < 11 else 2))
    of_channels = "axes" not in operation.attributes and (scales or ())[1:2] not in ((), (1.0,))
    return OPAQUE if crops or of_channels else Signature(NodeKind.RESIZE, arguments=arrange.resize)


def _with_constant_second(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
    """PRelu and Pow: functions of one value as long as the other is constant."""
    if operation.operand(1) not in constants:
        return OPAQUE
    how = read.homogeneous if operation.op == "PRelu" else read.none
    return Signature(NodeKind.ACTIVATION, (0,), {1: "weight"}, how)


def _mean(operation: Operation, constants: Constants, shapes: Shapes) -> Signature:
    """A mean over space alone is a global average pooling."""
    axes = axes_of(operation, constants.integers)
    rank = len(shapes.get(operation.operand(0), ()))
    if not axes or (min(axes) < 0 and not rank):
        return OPAQUE
    space = all((axis + rank if axis < 0 else axis) > 1 for axis in axes)
    return Signature(NodeKind.AVERAGE_POOL, arguments=read.mean) if space else OPAQUE


def _norm(
    kind: NodeKind,
    norm: Kind,
    arguments: read.Arguments,
    roles: Mapping[int, str] = WEIGHT_AND_BIAS,
    data: tuple[int, ...] = (0,),
) -> Signature:
    return Signature(kind, data, roles, arguments, norm)


def _all(
    kind: NodeKind, arguments: read.Arguments, operators: str
) -> dict[tuple[str, str], Signature]:
    return {("", op): Signature(kind, arguments=arguments) for op in operators.split()}


_RMS = _norm(NodeKind.RMS_NORM, "rms", read.layer_norm, {1: "weight"})

TABLE: Mapping[tuple[str, str], Signature | Choice] = {
    ("", "Conv"): Signature(NodeKind.CONV, (0,), WEIGHT_AND_BIAS, read.convolution),
    ("", "ConvTranspose"): Signature(
        NodeKind.CONV_TRANSPOSE, (0,), WEIGHT_AND_BIAS, read.transposed_convolution
    ),
    ("", "Gemm"): _gemm,
    ("", "MatMul"): _matmul,
    ("", "BatchNormalization"): _norm(NodeKind.BATCH_NORM, "batch", read.batch_norm, BATCH),
    ("", "InstanceNormalization"): _norm(NodeKind.INSTANCE_NORM, "instance", read.instance_norm),
    ("", "GroupNormalization"): _norm(NodeKind.GROUP_NORM, "group", read.group_norm),
    ("", "LayerNormalization"): _norm(NodeKind.LAYER_NORM, "layer", read.layer_norm),
    ("", "RMSNormalization"): _RMS,
    ("", "SimplifiedLayerNormalization"): _RMS,
    (MICROSOFT, "SimplifiedLayerNormalization"): _RMS,
    ("", "LRN"): _norm(
        NodeKind.LOCAL_RESPONSE_NORM, "local-response", read.local_response_norm, {}
    ),
    # onnxruntime's fusions do more than normalize: the layer is read, the node stays opaque.
    (MICROSOFT, "SkipLayerNormalization"): _norm(
        NodeKind.OPAQUE, "layer", read.skip_eps, {2: "weight", 3: "bias"}, (0, 1)
    ),
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): _norm(
        NodeKind.OPAQUE, "rms", read.skip_eps, {2: "weight"}, (0, 1)
    ),
    (MICROSOFT, "EmbedLayerNormalization"): _norm(
        NodeKind.OPAQUE, "layer", read.skip_eps, {5: "weight", 6: "bias"}, (0, 1)
    ),
    (MICROSOFT, "GroupNorm"): _norm(NodeKind.OPAQUE, "group", read.group_norm),
    (MICROSOFT, "SkipGroupNorm"): _norm(
        NodeKind.OPAQUE, "group", read.group_norm, WEIGHT_AND_BIAS, (0, 3)
    ),
    ("", "Add"): _with_constant(NodeKind.ADD, "bias"),
    ("", "Sub"): _with_constant(NodeKind.ADD, "bias"),
    ("", "Sum"): _sum,
    ("", "Mul"): _with_constant(NodeKind.MUL, "weight"),
    ("", "Div"): _with_constant(NodeKind.MUL, "weight"),
    ("", "Cast"): _cast,
    ("", "CastLike"): Signature(NodeKind.IDENTITY),
    ("", "Gather"): _gather,
    ("", "Resize"): _resize,
    ("", "Upsample"): _resize,
    ("", "PRelu"): _with_constant_second,
    ("", "Pow"): _with_constant_second,
    ("", "ReduceMean"): _mean,
    ("", "Concat"): Signature(NodeKind.CONCAT, None, arguments=arrange.axis),
    (MICROSOFT, "Gelu"): Signature(NodeKind.ACTIVATION),
    (MICROSOFT, "QuickGelu"): Signature(NodeKind.ACTIVATION, arguments=activation),
    (MICROSOFT, "QuantizeLinear"): Signature(NodeKind.QUANTIZE),
    (MICROSOFT, "DequantizeLinear"): Signature(NodeKind.QUANTIZE),
    **_all(NodeKind.RELU, read.none, "Relu"),
    **_all(
        NodeKind.ACTIVATION,
        activation,
        "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh Elu Erf Exp Floor "
        "Gelu HardSigmoid HardSwish IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Round Selu "
        "Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu",
    ),
    **_all(NodeKind.DROPOUT, read.dropout, "Dropout"),
    **_all(NodeKind.IDENTITY, read.none, "Identity"),
    **_all(NodeKind.MAX_POOL, read.pooling, "MaxPool"),
    **_all(NodeKind.MAX_POOL, read.global_pooling, "GlobalMaxPool"),
    **_all(NodeKind.AVERAGE_POOL, read.pooling, "AveragePool"),
    **_all(NodeKind.AVERAGE_POOL, read.global_pooling, "GlobalAveragePool"),
    **_all(NodeKind.PAD, arrange.pad, "Pad"),
    **_all(NodeKind.SPLIT, arrange.split, "Split"),
    **_all(NodeKind.SPLIT, arrange.cut, "Slice"),
    **_all(NodeKind.RESHAPE, arrange.reshape, "Reshape"),
    **_all(NodeKind.RESHAPE, arrange.flatten, "Flatten"),
    **_all(NodeKind.RESHAPE, arrange.squeeze, "Squeeze"),
    **_all(NodeKind.RESHAPE, arrange.unsqueeze, "Unsqueeze"),
    **_all(NodeKind.RESHAPE, arrange.transpose, "Transpose"),
    **_all(NodeKind.RESHAPE, arrange.depth_to_space, "DepthToSpace"),
    **_all(NodeKind.RESHAPE, arrange.space_to_depth, "SpaceToDepth"),
    **_all(NodeKind.QUANTIZE, arrange.axis, "QuantizeLinear DequantizeLinear"),
    **_all(NodeKind.SHAPE, read.none, "Shape Size RandomNormalLike RandomUniformLike"),
}
