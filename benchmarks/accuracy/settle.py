"""Gives a network the numbers that training leaves, and statistics that fit them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

BATCHES = 40_037  # that training counted: so many that the start is forgotten, and a prime
UNEVEN = 0.3  # of the logarithm of the size of a filter, from one to the next
NEGATIVE = 0.03  # of the gains
CONVERTED = 0.5  # a momentum that no training in PyTorch has; transformers' MobileNets: 0.997


@torch.no_grad()
def settle(module: nn.Module, data: Sequence[Tensor]) -> None:
    """Draw weights, gains and shifts, then estimate the running statistics from the data."""
    remove_parametrizations(module)
    for part in module.modules():
        if is_norm(part):
            _draw_affine(part)
        elif isinstance(getattr(part, "weight", None), Tensor):
            _draw_weight(part)
    for norm in estimate(module, data):
        if norm.affine:
            norm.reset_parameters()  # no part of the forward pass: never trained either


def is_norm(module: nn.Module) -> bool:
    """Whether it scales channels, by its class's name and the shape of its weight."""
    weight = getattr(module, "weight", None)
    named = "norm" in type(module).__name__.lower()
    return named and isinstance(weight, Tensor) and weight.dim() == 1


def batch_norms(module: nn.Module) -> list[tuple[str, Any]]:
    """The BatchNorms with running statistics, by name, in order; FrozenBatchNorms too."""
    return [
        (name, part)
        for name, part in module.named_modules()
        if isinstance(getattr(part, "running_mean", None), Tensor)
        and isinstance(getattr(part, "running_var", None), Tensor)
        and not isinstance(part, nn.modules.instancenorm._InstanceNorm)
    ]


def remove_parametrizations(module: nn.Module) -> None:
    """torch pickles no module that has some."""
    from torch.nn.utils import parametrize

    for part in filter(parametrize.is_parametrized, list(module.modules())):
        for name in list(part.parametrizations):
            parametrize.remove_parametrizations(part, name)
        part._load_state_dict_pre_hooks.clear()


def _draw_affine(norm: Any) -> None:
    """Gains around 1, or around 0 where the layer scales by 1 + w; a few are negative."""
    weight, bias = norm.weight, getattr(norm, "bias", None)
    if not isinstance(norm, _NormBase) and not weight.any() and bias is None:
        weight.normal_(0, 0.2)
    else:
        weight.copy_((torch.randn_like(weight) * 0.4 - 0.2).exp())
        weight[torch.rand_like(weight) < NEGATIVE] *= -1
    if isinstance(bias, Tensor):
        bias.normal_(-0.1, 0.25)


def _draw_weight(part: Any) -> None:
    """Filters of uneven size; those of a convolution keep the variance (He, arXiv:1502.01852)."""
    weight, bias = part.weight, getattr(part, "bias", None)
    if weight.is_floating_point() and weight.dim() > 1:
        sizes = (torch.randn(len(weight)) * UNEVEN).exp()
        if weight.dim() > 2 and weight.any():
            sizes *= (2 / weight[0].numel() / weight.square().mean()).sqrt()
        weight.mul_(sizes.reshape(-1, *[1] * (weight.dim() - 1)))
    if isinstance(bias, Tensor) and bias.is_floating_point() and not bias.any():
        bias.normal_(0, 0.02)


@torch.no_grad()
def estimate(module: nn.Module, data: Sequence[Tensor], batches: int = BATCHES) -> list[Any]:
    """Set all running statistics to those of the data, and the counters to ``batches``.

    Returns the BatchNorms through which nothing ran.
    """
    norms = [norm for _, norm in batch_norms(module)]
    kept = [(norm, norm.training, norm.momentum) for norm in norms if isinstance(norm, _NormBase)]
    hooks = []
    for norm in norms:
        if isinstance(norm, _NormBase):
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        else:
            hooks.append(norm.register_forward_pre_hook(_take_statistics))
    module(*data)
    for hook in hooks:
        hook.remove()
    idle = [norm for norm, *_ in kept if not norm.num_batches_tracked]
    for norm, training, momentum in kept:
        norm.train(training)
        norm.momentum = momentum
        if norm not in idle:
            norm.num_batches_tracked.fill_(0 if is_of_tensorflow(norm) else batches)
    return idle


def is_of_tensorflow(norm: Any) -> bool:
    """Whether its momentum is of TensorFlow's convention: weights were converted, not trained."""
    return norm.momentum is not None and norm.momentum >= CONVERTED


def _take_statistics(norm: Any, given: tuple[Tensor, ...]) -> None:
    """For a layer that keeps its statistics in training too."""
    (data, *_) = given
    axes = [axis for axis in range(data.dim()) if axis != 1]
    norm.running_mean.copy_(data.mean(axes))
    norm.running_var.copy_(data.var(axes))
