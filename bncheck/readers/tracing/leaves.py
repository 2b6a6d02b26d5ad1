"""Calls of modules that tracing does not look into: PyTorch's own, and normalization layers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from bncheck.graph import Node, NodeKind
from bncheck.readers import aten
from bncheck.readers.aten import Argument, Call, Constants, Value
from bncheck.readers.live_module import LiveModule
from bncheck.readers.module_tree import ModuleRecord
from bncheck.readers.nn_module import recognized
from bncheck.readers.sequential import torch_class
from bncheck.tensor import Tensor

EPS = 1e-5  # of those whose code alone holds it
BATCH = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Recipe:
    """The operator that a module's forward is: its tensors, and attributes under their own names.

    ``renamed`` are arguments that take an attribute of another name.
    """

    op: str
    tensors: str = ""
    attributes: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)


_CONV = "stride padding dilation groups"
_POOL = "kernel_size stride padding dilation ceil_mode"
_AVERAGE = "kernel_size stride padding ceil_mode count_include_pad divisor_override"
_NORM = "weight bias running_mean running_var"
_PADDED = {"pad": "padding"}
_BATCH_NORM = Recipe("batch_norm", _NORM, "eps momentum")
_INSTANCE_NORM = Recipe("instance_norm", _NORM, "eps momentum")
_LAYER_NORM = Recipe("layer_norm", "weight bias", "normalized_shape eps")
_RMS_NORM = Recipe("rms_norm", "weight", "normalized_shape eps")
_GROUP_NORM = Recipe("group_norm", "weight bias", "num_groups eps")
_DROPOUT = {"train": "training"}


def _by_space(name: str, op: str, tensors: str = "", attributes: str = "") -> dict[str, Recipe]:
    return {f"{name}{n}d": Recipe(f"{op}{n}d", tensors, attributes) for n in (1, 2, 3)}


def _activations(classes: str) -> dict[str, Recipe]:
    pairs = (pair.partition(":") for pair in classes.split())
    return {f"activation.{name}": Recipe(op or name.lower()) for name, _, op in pairs}


def _parametrized(classes: str) -> dict[str, Recipe]:
    """Activations that have parameters: ``LeakyReLU:leaky_relu:negative_slope``."""
    parts = (each.split(":") for each in classes.split())
    return {f"activation.{name}": Recipe(op, "", " ".join(held)) for name, op, *held in parts}


RECIPES: Mapping[str, Recipe] = {
    **_by_space("conv.Conv", "conv", "weight bias", _CONV),
    **_by_space("conv.ConvTranspose", "conv_transpose", "weight bias", _CONV + " output_padding"),
    "linear.Linear": Recipe("linear", "weight bias"),
    "linear.Identity": Recipe("alias"),
    "batchnorm._BatchNorm": _BATCH_NORM,
    "batchnorm.SyncBatchNorm": _BATCH_NORM,
    "instancenorm._InstanceNorm": _INSTANCE_NORM,
    "normalization.GroupNorm": _GROUP_NORM,
    "normalization.LayerNorm": _LAYER_NORM,
    "normalization.RMSNorm": _RMS_NORM,
    "normalization.LocalResponseNorm": Recipe("local_response_norm", "", "size alpha beta k"),
    "normalization.CrossMapLRN2d": Recipe("local_response_norm", "", "size alpha beta k"),
    **_activations(
        "ReLU ReLU6 Hardsigmoid Hardswish Sigmoid Tanh SELU GELU SiLU Mish LogSigmoid:log_sigmoid "
        "Softsign Softshrink Hardshrink Tanhshrink Threshold RReLU"
    ),
    **_parametrized(
        "LeakyReLU:leaky_relu:negative_slope ELU:elu:alpha CELU:celu:alpha "
        "Softplus:softplus:beta:threshold Hardtanh:hardtanh:min_val:max_val"
    ),
    "activation.PReLU": Recipe("prelu", "weight"),
    **{
        f"dropout.{name}": Recipe(op, "", "p", _DROPOUT)
        for name, op in (
            ("Dropout", "dropout"),
            ("Dropout1d", "feature_dropout"),
            ("Dropout2d", "feature_dropout"),
            ("Dropout3d", "feature_dropout"),
            ("AlphaDropout", "alpha_dropout"),
            ("FeatureAlphaDropout", "feature_alpha_dropout"),
        )
    },
    **_by_space("pooling.MaxPool", "max_pool", "", _POOL),
    **_by_space("pooling.AvgPool", "avg_pool", "", _AVERAGE),
    **_by_space("pooling.AdaptiveAvgPool", "adaptive_avg_pool", "", "output_size"),
    **_by_space("pooling.AdaptiveMaxPool", "adaptive_max_pool", "", "output_size"),
    "upsampling.Upsample": Recipe("interpolate", "", "mode"),
    "padding._ConstantPadNd": Recipe("constant_pad_nd", "", "value", _PADDED),
    **_by_space("padding.ReflectionPad", "reflection_pad", "", "padding"),
    **_by_space("padding.ReplicationPad", "replication_pad", "", "padding"),
    "flatten.Flatten": Recipe("flatten", "", "start_dim end_dim"),
    "flatten.Unflatten": Recipe("unflatten", "", "dim", {"sizes": "unflattened_size"}),
    "pixelshuffle.PixelShuffle": Recipe("pixel_shuffle", "", "upscale_factor"),
    "pixelshuffle.PixelUnshuffle": Recipe("pixel_unshuffle", "", "downscale_factor"),
    "channelshuffle.ChannelShuffle": Recipe("channel_shuffle", "", "groups"),
}
_BY_KIND = {
    "batch": _BATCH_NORM,
    "sync-batch": _BATCH_NORM,
    "frozen-batch": _BATCH_NORM,
    "instance": _INSTANCE_NORM,
    "group": _GROUP_NORM,
    "layer": _LAYER_NORM,
    "rms": _RMS_NORM,
}
_FAKE_QUANTIZE = "torch.ao.quantization.fake_quantize."


def calls(
    name: str, record: ModuleRecord, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> Iterator[Node]:
    """A call of a module as nodes; ``inputs`` are all values that it is given."""
    recipe = recipe_of(record)
    kind = record.class_path.rpartition(".")[2]
    if record.class_path.startswith(_FAKE_QUANTIZE):
        yield Node(NodeKind.QUANTIZE, kind, name, inputs, outputs)
    elif recipe is None or record.is_rewired or len(inputs) != 1:
        yield Node(NodeKind.OPAQUE, kind, name, inputs, outputs)
    else:
        data, padding = inputs[0], _padding(name, record, inputs[0])
        if padding is not None:
            yield padding
            (data,) = padding.outputs
        yield _call(name, record, recipe, data, outputs, padding is not None)


def call_batch_norm(root: Any) -> None:
    """Let the frozen BatchNorms within a module be one operator each: for a copy, to be traced."""
    for module in root.modules():
        record = LiveModule(module)
        norm = recognized(record)
        if norm is not None and norm.kind == "frozen-batch" and not record.is_rewired:
            module.forward = partial(_batch_norm, module, _eps(record))


def _batch_norm(module: Any, eps: float, data: Any) -> Any:
    batch_norm: Any = importlib.import_module("torch.nn.functional").batch_norm
    return batch_norm(data, **{role: getattr(module, role, None) for role in BATCH}, eps=eps)


def _eps(record: ModuleRecord) -> float:
    held = _arguments(record, _BATCH_NORM).get("eps")
    return held if isinstance(held, float | int) else EPS


def recipe_of(record: ModuleRecord) -> Recipe | None:
    """What the forward of a module is, which is that of its first base class of PyTorch's own."""
    for path in map(torch_class, record.lineage):
        if path in RECIPES:
            return RECIPES[path]
    norm = recognized(record)
    return _BY_KIND.get(norm.kind or "") if norm else None


def _call(
    name: str,
    record: ModuleRecord,
    recipe: Recipe,
    data: str,
    outputs: tuple[str, ...],
    is_padded: bool,
) -> Node:
    held = {role: record.lookup(role) for role in recipe.tensors.split()}
    values = {role: Value(f"{name}.{role}") for role, each in held.items() if each}
    tensors = {f"{name}.{role}": each.tensor for role, each in held.items() if each}
    constants = Constants({n: each for n, each in tensors.items() if isinstance(each, Tensor)})
    arguments = {**_arguments(record, recipe), **_mode(recipe, record), **values}
    if is_padded:
        del arguments["padding"]
    call = Call(f"aten.{recipe.op}", {"self": Value(data), **arguments}, outputs, name)
    return replace(aten.node(call, constants), op=record.class_path.rpartition(".")[2])


def _arguments(record: ModuleRecord, recipe: Recipe) -> dict[str, Argument]:
    attributes = dict(record.attributes)
    attributes.setdefault("eps", attributes.get("variance_epsilon"))
    wanted = {name: name for name in recipe.attributes.split()} | dict(recipe.renamed)
    plain = {name: _literal(attributes.get(own)) for name, own in wanted.items()}
    return {name: value for name, value in plain.items() if value is not None or name == "eps"}


def _literal(value: object) -> Argument:
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(each, int) for each in value):
        return list(value)
    return None


def _mode(recipe: Recipe, record: ModuleRecord) -> dict[str, Argument]:
    """Whether a norm takes the statistics of its input: in training mode, or having no others."""
    has_own = bool(record.lookup("running_mean") and record.lookup("running_var"))
    norm = recognized(record)
    is_frozen = norm is not None and norm.kind == "frozen-batch"
    training = record.attributes.get("training") is True and not is_frozen
    if recipe is _BATCH_NORM:
        return {"training": training or not has_own}
    return {"use_input_stats": training or not has_own} if recipe is _INSTANCE_NORM else {}


def _padding(name: str, record: ModuleRecord, data: str) -> Node | None:
    """The padding that a convolution makes beforehand, where it does not pad with zeros."""
    mode = record.attributes.get("padding_mode", "zeros")
    sides = _literal(record.attributes.get("_reversed_padding_repeated_twice"))
    if mode == "zeros" or not isinstance(mode, str):
        return None
    arguments: dict[str, Argument] = {"self": Value(data), "pad": sides, "mode": mode}
    call = Call("aten.pad", arguments, (f"{name}:padded:{data}",), name)
    return replace(aten.node(call, Constants({})), op="pad")
