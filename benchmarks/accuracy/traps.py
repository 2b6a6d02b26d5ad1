"""What looks wrong in healthy networks, planted: each trap changes a network that stays healthy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from . import onnx_traps
from .corpus import Network
from .custom import Standardized
from .formats import FORMATS, Format, Inputs, Write, checkpoint
from .settle import batch_norms, estimate, is_of_tensorflow

DENORMAL = 5.6e-45  # where a moving average of a constant stops in float32
LAST_OF_RESIDUAL = re.compile(r"(?:^|\.)(?:units?|stage)\d*\..*body\.conv(\d)\.bn$")
Files = Mapping[str, Format]


class Trap(NamedTuple):
    """``plant`` changes a network in place, and says whether there was anything to change."""

    plant: Callable[[Network], bool]
    files: Files


class Frozen(nn.Module):
    """torchvision's FrozenBatchNorm2d: buffers alone, and no counter."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.eps = norm.eps
        self.register_buffer("weight", norm.weight.detach().clone())
        self.register_buffer("bias", norm.bias.detach().clone())
        self.register_buffer("running_mean", norm.running_mean.clone())
        self.register_buffer("running_var", norm.running_var.clone())

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.reshape(1, -1, 1, 1), self.bias.reshape(1, -1, 1, 1)
        var, mean = self.running_var.reshape(1, -1, 1, 1), self.running_mean.reshape(1, -1, 1, 1)
        scale = weight * (var + self.eps).rsqrt()
        return x * scale + (bias - mean * scale)


class FrozenBatchNorm2d(Frozen):
    """Under the name that it is known by."""


def _norms(network: Network) -> list[Any]:
    return [norm for _, norm in batch_norms(network.module) if isinstance(norm, _BatchNorm)]


def _dead_channels(network: Network) -> bool:
    """Filters that weight decay has taken to 0; then their variance decays too."""
    for part in network.module.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            part.weight[3::11] = 0
    estimate(network.module, network.data)
    for norm in _norms(network):
        norm.running_var.clamp_(min=DENORMAL)
    return bool(_norms(network))


def _mixed_eps(network: Network) -> bool:
    for norm in _norms(network)[::6]:
        norm.eps = 1e-3
    return len(_norms(network)) > 1


def _no_eps(network: Network) -> bool:
    """As in torchvision's detectors; no variance is 0."""
    for norm in _norms(network):
        norm.eps = 0.0
    return bool(_norms(network)) and all(norm.running_var.min() > 0 for norm in _norms(network))


def _uneven_counters(network: Network) -> bool:
    """A backbone that was loaded without counters, and a head that runs three times a step."""
    norms = [norm for norm in _norms(network) if norm.num_batches_tracked]
    for norm in norms[: len(norms) // 2]:
        norm.num_batches_tracked.zero_()
    for norm in norms[-1:]:
        norm.num_batches_tracked *= 3
    return len(norms) > 3


def _counters(count: int) -> Callable[[Network], bool]:
    def plant(network: Network) -> bool:
        for norm in _norms(network):
            if norm.num_batches_tracked:
                norm.num_batches_tracked.fill_(count)
        return bool(_norms(network))

    return plant


def _no_counters(network: Network) -> bool:
    """As before PyTorch 0.4.1."""
    for norm in _norms(network):
        norm.num_batches_tracked = None
    return bool(_norms(network))


def _zero_residual(network: Network) -> bool:
    """Goyal et al., arXiv:1706.02677: the last gain of a residual branch starts at 0."""
    lasts: dict[str, Any] = {}
    for name, norm in batch_norms(network.module):
        if LAST_OF_RESIDUAL.search(name):
            lasts[name.rpartition(".body.")[0]] = norm
    for norm in list(lasts.values())[::2]:
        norm.weight.zero_()
        norm.bias.zero_()
    estimate(network.module, network.data)
    return bool(lasts)


def _negative_gains(network: Network) -> bool:
    for norm in _norms(network):
        if norm.affine:
            norm.weight[::2] *= -1
    estimate(network.module, network.data)
    return bool(_norms(network))


def _momentum(momentum: float | None) -> Callable[[Network], bool]:
    def plant(network: Network) -> bool:
        for norm in _norms(network):
            norm.momentum = momentum
        return bool(_norms(network))

    return plant


def _biases(network: Network) -> bool:
    """A bias in each convolution, which BatchNorm subtracts again."""
    for part in network.module.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d) and part.bias is None:
            part.bias = nn.Parameter(0.1 * torch.randn(part.out_channels))
    estimate(network.module, network.data)
    return bool(_norms(network))


def _standardization(network: Network) -> bool:
    kernels = [part for part in network.module.modules() if type(part) is nn.Conv2d]
    wide = [part for part in kernels if part.weight[0].numel() > 1]
    for part in wide:
        part.__class__ = Standardized
    estimate(network.module, network.data)
    return bool(wide)


def replaced(module: nn.Module, make: Callable[[Any], nn.Module]) -> bool:
    """Put something in the place of each BatchNorm of images that has a scale."""
    found = False
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if type(child) is nn.BatchNorm2d and child.affine:
                setattr(part, name, make(child).eval())
                found = True
    return found


def _frozen_norm(network: Network) -> bool:
    return replaced(network.module, FrozenBatchNorm2d)


def _frozen_norm_folded(network: Network) -> bool:
    """As detectron2 converts weights: all is in the scale and the shift."""

    def make(norm: Any) -> nn.Module:
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        norm.bias -= norm.running_mean * scale
        norm.weight.copy_(scale)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        return FrozenBatchNorm2d(norm)

    return replaced(network.module, make)


def _dropout(network: Network) -> bool:
    """Published models have it: Dropout directly before BatchNorm."""
    return replaced(network.module, lambda norm: nn.Sequential(nn.Dropout(0.2), norm))


def _sync(network: Network) -> bool:
    return replaced(network.module, nn.SyncBatchNorm.convert_sync_batchnorm)


def _untrained(network: Network) -> bool:
    for norm in _norms(network):
        norm.reset_parameters()
    return bool(_norms(network))


def _without_gradients(network: Network) -> bool:
    network.module.requires_grad_(False)
    return True


def _frozen_backbone(network: Network) -> bool:
    """The first half in eval mode, without gradients; the rest in training, with its momentum."""
    if any(map(is_of_tensorflow, _norms(network))):
        return False
    parts = [part for part in network.module.modules() if not list(part.children())]
    network.module.train()
    for part in parts[: len(parts) // 2]:
        part.eval().requires_grad_(False)
    for parent in network.module.modules():
        inside = [part for part in parent.modules() if not list(part.children())]
        if not any(part.training for part in inside):
            parent.training = False
    return len(_norms(network)) > 1


def _as_it_is(network: Network) -> bool:
    return True


def _in(dtype: torch.dtype) -> Callable[[Network], bool]:
    def plant(network: Network) -> bool:
        network.module.to(dtype)
        return True

    return plant


def _has_norms(network: Network) -> bool:
    return bool(_norms(network))


def _ema_checkpoint(module: nn.Module, inputs: Inputs, path: Path) -> None:
    ema = AveragedModel(module, use_buffers=True)
    torch.save({**checkpoint(module), "ema_state_dict": ema.module.state_dict()}, path)


def _ema_module(module: nn.Module, inputs: Inputs, path: Path) -> None:
    averaged = AveragedModel(module, use_buffers=True)
    averaged.update_parameters(module)
    torch.save(averaged, path)


def _ema_of_half(module: nn.Module, inputs: Inputs, path: Path) -> None:
    """What Ultralytics keeps: the average in half precision, in a checkpoint without optimizer."""
    ema = AveragedModel(module, use_buffers=True).module.half()
    torch.save({"epoch": -1, "model": None, "ema": ema, "updates": 40_037, "optimizer": None}, path)


def _wrapped(prefix: str) -> Write:
    def save(module: nn.Module, inputs: Inputs, path: Path) -> None:
        torch.save({prefix + key: value for key, value in module.state_dict().items()}, path)

    return save


def _parallel(module: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.save(nn.DataParallel(module), path)


def _training_module(module: nn.Module, inputs: Inputs, path: Path) -> None:
    """The module itself in a checkpoint, beside its optimizer."""
    torch.save({"model": module, "epoch": 3, "optimizer": checkpoint(module)["optimizer"]}, path)


def _legacy(module: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)


def _only(*names: str) -> Files:
    return {name: FORMATS[name] for name in names}


PICKLED = _only("state_dict", "checkpoint", "safetensors", "module")
DEPLOYED = _only("state_dict", "safetensors", "module")  # without an optimizer beside
GRAPHS = _only("TorchScript traced", "pt2", "ONNX kept", "ONNX dynamo plain")
ALL = {**PICKLED, **GRAPHS}
TRAPS: dict[str, Trap] = {
    "dead channels": Trap(_dead_channels, ALL),
    "eps mixed": Trap(_mixed_eps, ALL),
    "eps 0": Trap(_no_eps, ALL),
    "uneven counters": Trap(_uneven_counters, ALL),
    "counters reset": Trap(_counters(0), ALL),
    "counted by update_bn": Trap(_counters(12), ALL),
    "no counters": Trap(_no_counters, PICKLED),
    "zero-init residual": Trap(_zero_residual, ALL),
    "negative gains": Trap(_negative_gains, ALL),
    "momentum 3e-4": Trap(_momentum(3e-4), ALL),
    "cumulative average": Trap(_momentum(None), ALL),
    "half precision": Trap(_in(torch.float16), {**DEPLOYED, **GRAPHS}),
    "bfloat16": Trap(_in(torch.bfloat16), {**DEPLOYED, **_only("pt2")}),
    "EMA copies": Trap(
        _as_it_is,
        {
            "checkpoint with EMA": (".pt", _ema_checkpoint),
            "AveragedModel": (".pt", _ema_module),
            "half-precision EMA": (".pt", _ema_of_half),
        },
    ),
    "frozen backbone": Trap(
        _frozen_backbone,
        {"checkpoint": FORMATS["checkpoint"], "module in checkpoint": (".pt", _training_module)},
    ),
    "no gradients": Trap(_without_gradients, _only("module", "checkpoint")),
    "FrozenBatchNorm": Trap(_frozen_norm, ALL),
    "FrozenBatchNorm, folded": Trap(_frozen_norm_folded, ALL),
    "SyncBatchNorm": Trap(_sync, ALL),
    "bias before BatchNorm": Trap(_biases, ALL),
    "Dropout before BatchNorm": Trap(_dropout, {**_only("module"), **GRAPHS}),
    "weight standardization": Trap(_standardization, ALL),
    "untrained": Trap(_untrained, ALL),
    "wrapped": Trap(
        _as_it_is,
        {
            "DataParallel state_dict": (".pth", _wrapped("module.")),
            "compiled state_dict": (".pth", _wrapped("_orig_mod.")),
            "DataParallel": (".pt", _parallel),
            "legacy state_dict": (".pth", _legacy),
        },
    ),
    "ONNX as written elsewhere": Trap(_has_norms, onnx_traps.FILES),
}
