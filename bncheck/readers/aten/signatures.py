"""ATen operators in bncheck's vocabulary.

Names and order of arguments are those of native_functions.yaml; where torch.nn.functional has the
order of its own, it is left to whoever reads calls to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bncheck.graph import NodeKind, Shape
from bncheck.model import Kind
from bncheck.readers.aten import arguments as read
from bncheck.readers.aten import arrangement as arrange
from bncheck.readers.aten.activations import activation
from bncheck.readers.aten.call import Argument, Call, Value
from bncheck.readers.aten.constants import Constants
from bncheck.tensor import Tensor

FLOATS = frozenset({"float64", "float32", "float16", "bfloat16"})
WEIGHT_AND_BIAS = {"weight": "weight", "bias": "bias"}
BATCH = {**WEIGHT_AND_BIAS, "running_mean": "running_mean", "running_var": "running_var"}


@dataclass(frozen=True, slots=True)
class Signature:
    """How to read an operator: which arguments are data (None: all), which are parameters.

    ``held`` are parameters that no argument is as it stands. Of what is ``unread``, an operator
    takes the shape or the type alone.
    """

    kind: NodeKind
    data: tuple[str, ...] | None = ("self",)
    roles: Mapping[str, str] = field(default_factory=dict)
    arguments: read.Arguments = read.none
    norm: Kind | None = None
    held: Mapping[str, Tensor] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


Shapes = Mapping[str, Shape]
Choice = Callable[[Call, Constants, Shapes], Signature]
OPAQUE = Signature(NodeKind.OPAQUE, None)
IDENTITY = Signature(NodeKind.IDENTITY, unread=("other",))
CONVOLUTION = Signature(NodeKind.CONV, roles=WEIGHT_AND_BIAS, arguments=read.convolution)
TRANSPOSED = Signature(
    NodeKind.CONV_TRANSPOSE, roles=WEIGHT_AND_BIAS, arguments=read.transposed_convolution
)


def signature(call: Call, constants: Constants, shapes: Shapes) -> Signature:
    """How a call is to be read, given which of its arguments are constant."""
    entry = TABLE.get(call.op, OPAQUE)
    return entry if isinstance(entry, Signature) else entry(call, constants, shapes)


def _is_constant(argument: Argument, constants: Constants) -> bool:
    if isinstance(argument, Value):
        return argument.name in constants
    return isinstance(argument, int | float)


def _convolution(call: Call, constants: Constants, shapes: Shapes) -> Signature:
    return TRANSPOSED if call.flag("transposed", False) else CONVOLUTION


def _product(left: str, right: str, bias: str | None = None) -> Choice:
    """A matrix product, which is LINEAR where the right side is constant."""
    roles = {bias: "bias"} if bias else {}

    def choose(call: Call, constants: Constants, shapes: Shapes) -> Signature:
        weight = constants.get(call.value(right))
        if weight is not None and len(weight.shape) > 1:
            stored = constants.transposed(call.value(right))
            if stored is not None:
                held = {"weight": stored}
                return Signature(NodeKind.LINEAR, (left,), roles, read.upright, held=held)
            return Signature(NodeKind.LINEAR, (left,), {right: "weight", **roles}, read.linear)
        if weight is not None or call.value(left) in constants:
            return OPAQUE  # not along the last axis of the data
        return Signature(NodeKind.MATMUL, (left, right), roles, read.linear)

    return choose


def _with_constant(kind: NodeKind, role: str, swapped: bool = False) -> Choice:
    """add, sub, mul, div: of data and a constant, or of two data."""
    left, right = ("other", "self") if swapped else ("self", "other")

    def choose(call: Call, constants: Constants, shapes: Shapes) -> Signature:
        if call.argument("rounding_mode") is not None:
            return OPAQUE
        if _is_constant(call.argument(right), constants):
            return Signature(kind, (left,), {right: role}, read.elementwise)
        if _is_constant(call.argument(left), constants):
            if call.number("alpha", 1) != 1:
                return OPAQUE  # a factor on the data
            return Signature(kind, (right,), {left: role}, read.reversed_elementwise)
        return Signature(kind, (left, right), arguments=read.elementwise)

    return choose


def _cast(call: Call, constants: Constants, shapes: Shapes) -> Signature:
    floating = call.text("dtype", "float32") in FLOATS
    kind = NodeKind.IDENTITY if floating else NodeKind.ACTIVATION
    return Signature(kind, arguments=read.cast, unread=("other",))


def _with_constant_second(name: str, arguments: read.Arguments = read.none) -> Choice:
    """prelu and pow: functions of one value as long as the other is constant."""

    def choose(call: Call, constants: Constants, shapes: Shapes) -> Signature:
        if not _is_constant(call.argument(name), constants):
            return OPAQUE
        return Signature(NodeKind.ACTIVATION, ("self",), {name: "weight"}, arguments)

    return choose


def _clamp(call: Call, constants: Constants, shapes: Shapes) -> Signature:
    bounds = (call.argument(name) for name in ("min", "max"))
    fixed = all(bound is None or _is_constant(bound, constants) for bound in bounds)
    return Signature(NodeKind.ACTIVATION, arguments=activation) if fixed else OPAQUE


def _mean(call: Call, constants: Constants, shapes: Shapes) -> Signature:
    """A mean over space alone is a global average pooling."""
    axes = call.integers("dim")
    rank = len(shapes.get(call.value("self"), ()))
    if not axes or (min(axes) < 0 and not rank):
        return OPAQUE
    space = all((axis + rank if axis < 0 else axis) > 1 for axis in axes)
    return Signature(NodeKind.AVERAGE_POOL, arguments=read.mean) if space else OPAQUE


def _reshape_as(call: Call, constants: Constants, shapes: Shapes) -> Signature:
    shape = shapes.get(call.value("other"))
    attributes: dict[str, object] = {"shape": shape} if shape else {}
    return Signature(
        NodeKind.RESHAPE, arguments=lambda call, constants: attributes, unread=("other",)
    )


def _index_select(call: Call, constants: Constants, shapes: Shapes) -> Signature:
    if call.value("self") in constants:
        return OPAQUE  # an embedding: its data are the indices
    return Signature(NodeKind.SPLIT, arguments=arrange.places)


def _norm(
    kind: NodeKind, norm: Kind, arguments: read.Arguments, roles: Mapping[str, str]
) -> Signature:
    return Signature(kind, roles=roles, arguments=arguments, norm=norm)


def _all(how: Signature | Choice, operators: str) -> dict[str, Signature | Choice]:
    return {f"aten.{op}": how for op in operators.split()}


def _of_self(kind: NodeKind, arguments: read.Arguments = read.none) -> Signature:
    return Signature(kind, arguments=arguments)


TABLE: Mapping[str, Signature | Choice] = {
    **_all(_convolution, "conv1d conv2d conv3d convolution _convolution _convolution_mode"),
    **_all(TRANSPOSED, "conv_transpose1d conv_transpose2d conv_transpose3d"),
    **_all(_product("self", "weight", "bias"), "linear"),
    **_all(_product("mat1", "mat2", "self"), "addmm"),
    **_all(_product("self", "mat2"), "mm bmm"),
    **_all(_product("self", "other"), "matmul"),
    **_all(
        _norm(NodeKind.BATCH_NORM, "batch", read.batch_norm, BATCH),
        "batch_norm cudnn_batch_norm miopen_batch_norm native_batch_norm _native_batch_norm_legit "
        "_native_batch_norm_legit_functional _batch_norm_impl_index",
    ),
    **_all(
        _norm(NodeKind.BATCH_NORM, "batch", read.eval_batch_norm, BATCH),
        "_native_batch_norm_legit_no_training _batch_norm_no_update",
    ),
    **_all(
        _norm(NodeKind.BATCH_NORM, "batch", read.training_batch_norm, BATCH),
        "_batch_norm_with_update _batch_norm_with_update_functional",
    ),
    **_all(_norm(NodeKind.INSTANCE_NORM, "instance", read.instance_norm, BATCH), "instance_norm"),
    **_all(
        _norm(NodeKind.GROUP_NORM, "group", read.group_norm, WEIGHT_AND_BIAS),
        "group_norm native_group_norm",
    ),
    **_all(
        _norm(NodeKind.LAYER_NORM, "layer", read.layer_norm, WEIGHT_AND_BIAS),
        "layer_norm native_layer_norm",
    ),
    **_all(
        _norm(NodeKind.RMS_NORM, "rms", read.rms_norm, {"weight": "weight"}),
        "rms_norm _fused_rms_norm",
    ),
    **_all(
        _norm(NodeKind.LOCAL_RESPONSE_NORM, "local-response", read.local_response_norm, {}),
        "local_response_norm",
    ),
    **_all(_with_constant(NodeKind.ADD, "bias"), "add sub"),
    **_all(_with_constant(NodeKind.ADD, "bias", swapped=True), "rsub"),
    **_all(_with_constant(NodeKind.MUL, "weight"), "mul div"),
    **_all(_of_self(NodeKind.RELU), "relu"),
    **_all(
        _of_self(NodeKind.ACTIVATION, activation),
        "abs acos acosh asin asinh atan atanh bitwise_not ceil celu cos cosh elu erf erfc exp "
        "exp2 expm1 floor frac gelu hardshrink hardsigmoid hardswish hardtanh isinf isnan "
        "leaky_relu log log10 log1p log2 log_sigmoid logical_not logit mish neg reciprocal relu6 "
        "round rrelu rsqrt selu sigmoid sign silu sin sinh softplus softshrink softsign sqrt "
        "square tan tanh tanhshrink threshold trunc clamp_min clamp_max",
    ),
    **_all(_with_constant_second("weight", read.homogeneous), "prelu"),
    **_all(_with_constant_second("exponent"), "pow"),
    **_all(_clamp, "clamp clip"),
    **_all(
        _of_self(NodeKind.DROPOUT, read.dropout),
        "dropout native_dropout feature_dropout alpha_dropout feature_alpha_dropout",
    ),
    **_all(IDENTITY, "alias clone contiguous detach lift_fresh lift_fresh_copy positive type_as"),
    **_all(_cast, "to _to_copy"),
    **_all(
        _of_self(NodeKind.MAX_POOL, read.pooling),
        "max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices "
        "max_pool3d_with_indices",
    ),
    **_all(
        _of_self(NodeKind.MAX_POOL, read.adaptive_pooling),
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
    ),
    **_all(_of_self(NodeKind.AVERAGE_POOL, read.pooling), "avg_pool1d avg_pool2d avg_pool3d"),
    **_all(
        _of_self(NodeKind.AVERAGE_POOL, read.adaptive_pooling),
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d "
        "_adaptive_avg_pool3d",
    ),
    **_all(_mean, "mean"),
    **_all(
        _of_self(NodeKind.RESIZE, arrange.resize),
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d "
        "upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d _upsample_nearest_exact1d "
        "_upsample_nearest_exact2d _upsample_nearest_exact3d _upsample_bilinear2d_aa "
        "_upsample_bicubic2d_aa interpolate",
    ),
    **_all(
        _of_self(NodeKind.PAD, arrange.pad),
        "pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d "
        "replication_pad1d replication_pad2d replication_pad3d",
    ),
    **_all(Signature(NodeKind.CONCAT, ("tensors",), arguments=arrange.axis), "cat"),
    **_all(_of_self(NodeKind.SPLIT, arrange.parts), "split split_with_sizes chunk"),
    **_all(_of_self(NodeKind.SPLIT, arrange.axis), "tensor_split"),
    **_all(_of_self(NodeKind.SPLIT, arrange.unbound), "unbind"),
    **_all(_of_self(NodeKind.SPLIT, arrange.place), "select"),
    **_all(_index_select, "index_select"),
    **_all(_of_self(NodeKind.SPLIT, arrange.cut), "slice narrow"),
    **_all(_of_self(NodeKind.RESHAPE, arrange.reshape), "view reshape _unsafe_view"),
    **_all(_reshape_as, "view_as reshape_as"),
    **_all(_of_self(NodeKind.RESHAPE, arrange.flatten), "flatten"),
    **_all(_of_self(NodeKind.RESHAPE, arrange.unflatten), "unflatten"),
    **_all(_of_self(NodeKind.RESHAPE, arrange.squeeze), "squeeze"),
    **_all(_of_self(NodeKind.RESHAPE, arrange.unsqueeze), "unsqueeze"),
    **_all(_of_self(NodeKind.RESHAPE, arrange.permute), "permute"),
    **_all(_of_self(NodeKind.RESHAPE, arrange.transpose), "transpose t mT"),
    **_all(_of_self(NodeKind.RESHAPE), "numpy_T movedim"),
    **_all(_of_self(NodeKind.RESHAPE, arrange.shuffle), "pixel_shuffle pixel_unshuffle"),
    **_all(_of_self(NodeKind.RESHAPE, arrange.channel_shuffle), "channel_shuffle"),
    **_all(
        _of_self(NodeKind.QUANTIZE),
        "fake_quantize_per_tensor_affine fake_quantize_per_channel_affine "
        "fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask "
        "fused_moving_avg_obs_fake_quant quantize_per_tensor quantize_per_channel "
        "quantize_per_tensor_dynamic dequantize int_repr",
    ),
    **{
        f"quantized_decomposed.{op}": _of_self(NodeKind.QUANTIZE)
        for op in (
            "quantize_per_tensor",
            "dequantize_per_tensor",
            "quantize_per_channel",
            "dequantize_per_channel",
            "fake_quant_per_channel",
        )
    },
    **_all(
        _of_self(NodeKind.SHAPE),
        "size sym_size numel sym_numel dim stride sym_stride len zeros_like ones_like empty_like "
        "full_like rand_like randn_like new_zeros new_ones new_empty new_full",
    ),
}
