"""The order of arguments of ATen operators, as in native_functions.yaml of torch 2.13."""

from __future__ import annotations

from collections.abc import Mapping

_CONV = "input weight bias stride padding dilation groups"
_CONV_TRANSPOSE = "input weight bias stride padding output_padding groups dilation"
_CONVOLUTION = "input weight bias stride padding dilation transposed output_padding groups"
_BATCH = "input weight bias running_mean running_var"
_MAX_POOL = "self kernel_size stride padding dilation ceil_mode"
_AVG_POOL = "self kernel_size stride padding ceil_mode count_include_pad divisor_override"
_TEXT = {
    "conv1d conv2d conv3d": _CONV,
    "conv_transpose1d conv_transpose2d conv_transpose3d": _CONV_TRANSPOSE,
    "convolution _convolution": _CONVOLUTION,
    "_convolution_mode": "input weight bias stride padding dilation groups",
    "linear": "input weight bias",
    "addmm": "self mat1 mat2",
    "mm bmm": "self mat2",
    "baddbmm": "self batch1 batch2",
    "batch_norm _batch_norm_impl_index": f"{_BATCH} training momentum eps cudnn_enabled",
    "cudnn_batch_norm miopen_batch_norm": (f"{_BATCH} training exponential_average_factor epsilon"),
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional": (
        f"{_BATCH} training momentum eps"
    ),
    "_native_batch_norm_legit.no_stats": "input weight bias training momentum eps",
    "_native_batch_norm_legit_no_training _batch_norm_no_update _batch_norm_with_update "
    "_batch_norm_with_update_functional": f"{_BATCH} momentum eps",
    "instance_norm": f"{_BATCH} use_input_stats momentum eps cudnn_enabled",
    "group_norm": "input num_groups weight bias eps cudnn_enabled",
    "native_group_norm": "input weight bias N C HxW group eps",
    "layer_norm": "input normalized_shape weight bias eps cudnn_enable",
    "native_layer_norm": "input normalized_shape weight bias eps",
    "rms_norm _fused_rms_norm": "input normalized_shape weight eps",
    "local_response_norm": "input size alpha beta k",
    "add sub rsub": "self other alpha",
    "mul div": "self other",
    "dropout native_dropout feature_dropout alpha_dropout feature_alpha_dropout": "input p train",
    "max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices "
    "max_pool3d_with_indices": _MAX_POOL,
    "avg_pool1d": "self kernel_size stride padding ceil_mode count_include_pad",
    "avg_pool2d avg_pool3d": _AVG_POOL,
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d "
    "_adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d": (
        "self output_size"
    ),
    "mean": "self dim keepdim",
    "interpolate": "input size scale_factor mode align_corners",
    "pad": "self pad mode value",
    "constant_pad_nd": "self pad value",
    "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d": "self padding",
    "cat stack": "tensors dim",
    "split": "self split_size dim",
    "split_with_sizes": "self split_sizes dim",
    "chunk": "self chunks dim",
    "tensor_split": "self sections dim",
    "unbind": "self dim",
    "slice": "self dim start end step",
    "select": "self dim index",
    "narrow": "self dim start length",
    "index_select gather": "self dim index",
    "embedding": "weight indices padding_idx",
    "reshape": "self shape",
    "view _unsafe_view expand": "self size",
    "flatten": "self start_dim end_dim",
    "unflatten": "self dim sizes",
    "permute": "self dims",
    "transpose": "self dim0 dim1",
    "movedim": "self source destination",
    "squeeze unsqueeze": "self dim",
    "pixel_shuffle": "self upscale_factor",
    "pixel_unshuffle": "self downscale_factor",
    "channel_shuffle": "self groups",
    "to": "self dtype",
    "to.device": "self device dtype",
    "to.prim_Device": "self device dtype",
    "type_as view_as reshape_as": "self other",
    "pow": "self exponent",
    "prelu": "self weight",
    "clamp clip": "self min max",
    "matmul": "self other",
    "hardtanh": "self min_val max_val",
    "leaky_relu": "self negative_slope",
    "elu celu": "self alpha",
    "softplus": "self beta threshold",
    "clamp_min": "self min",
    "clamp_max": "self max",
    "size sym_size": "self dim",
}
_FIRST_ONLY = (
    "abs acos acosh asin asinh atan atanh bitwise_not ceil cos cosh erf erfc exp exp2 "
    "expm1 floor frac gelu hardshrink hardsigmoid hardswish isinf isnan log log10 log1p log2 "
    "log_sigmoid logical_not logit mish neg reciprocal relu relu6 round rrelu rsqrt selu sigmoid "
    "sign silu sin sinh softshrink softsign sqrt square tan tanh tanhshrink threshold "
    "trunc alias clone contiguous detach lift_fresh lift_fresh_copy positive _to_copy t numpy_T mT "
    "dequantize int_repr sym_numel numel dim len stride sym_stride zeros_like ones_like "
    "empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full "
    "fake_quantize_per_tensor_affine fake_quantize_per_channel_affine "
    "fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask "
    "fused_moving_avg_obs_fake_quant quantize_per_tensor quantize_per_channel "
    "quantize_per_tensor_dynamic upsample_nearest1d upsample_nearest2d upsample_nearest3d "
    "upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d "
    "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa"
)
SCHEMAS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_FIRST_ONLY.split(), ("self",)),
    **{op: tuple(text.split()) for ops, text in _TEXT.items() for op in ops.split()},
}
