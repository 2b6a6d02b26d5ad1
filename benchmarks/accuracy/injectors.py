"""Defects of tensors, flags and constants, planted in modules by plain assignment.

Each injector takes a patient and the names of BatchNorms to break, and gives the names of the
layers that a finding must name: None for the whole model. An empty answer: nothing to break here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from .patients import Patient

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Named = Sequence[str | None]
Inject = Callable[[Patient, Sequence[str]], Named]
WHOLE: Named = (None,)


def each_norm(change: Callable[[Any], object]) -> Inject:
    """Does the same to every BatchNorm that was chosen."""

    def inject(patient: Patient, names: Sequence[str]) -> Named:
        for name in names:
            change(patient.part(name))
        return names

    return inject


def each_affine(change: Callable[[Any], object]) -> Inject:
    """The same for those with weight and bias."""

    def inject(patient: Patient, names: Sequence[str]) -> Named:
        affine = [name for name in names if patient.part(name).affine]
        return each_norm(change)(patient, affine)

    return inject


def value(tensor: str, channel: int, number: float) -> Callable[[Any], None]:
    """One number in one channel."""

    def change(norm: Any) -> None:
        getattr(norm, tensor).data[channel] = number

    return change


def constant(name: str, number: object) -> Callable[[Any], None]:
    """An attribute of the module."""
    return lambda norm: setattr(norm, name, number)


def never_updated(norm: Any) -> None:
    norm.running_mean.zero_()
    norm.running_var.fill_(1)
    norm.num_batches_tracked.zero_()


def counted_only(norm: Any) -> None:
    norm.running_mean.zero_()
    norm.running_var.fill_(1)


def five_batches(norm: Any) -> None:
    """A moving average after five batches, from 0 and 1."""
    left = 0.9**5
    norm.momentum = 0.1
    norm.running_mean *= 1 - left
    norm.running_var.mul_(1 - left).add_(left)
    norm.num_batches_tracked.fill_(5)


def uneven_counts(patient: Patient, names: Sequence[str]) -> Named:
    """Fewer than half of the layers counted three times as many batches."""
    chosen = names[: (len(patient.norms()) - 1) // 2]
    for name in chosen:
        patient.part(name).num_batches_tracked *= 3
    return chosen


def small_variance(norm: Any) -> None:
    norm.running_var[: max(1, len(norm.running_var) // 2)] = 2 * norm.eps


def large_gain(norm: Any) -> None:
    norm.weight.data[-1] = 5e3 * (norm.running_var[-1] + norm.eps).sqrt()


def large_mean(norm: Any) -> None:
    norm.running_mean[0] = -400 * (norm.running_var[0] + norm.eps).sqrt()


def shifted_means(norm: Any) -> None:
    norm.running_mean += 3 * (norm.running_var + norm.eps).sqrt()


def bfloat16(patient: Patient, names: Sequence[str]) -> Named:
    """The whole model: exporters take no mixture."""
    _cast(patient, torch.bfloat16)
    return patient.norms()


def beyond_half(patient: Patient, names: Sequence[str]) -> Named:
    """A gain that float16 does not hold, in a model of that precision."""
    affine = [name for name in names if patient.part(name).affine]
    _cast(patient, torch.float16)
    for name in affine:
        norm = patient.part(name)
        norm.weight.data[0] = 6e4
        norm.running_var[0] = 0.01
    return affine


def _cast(patient: Patient, dtype: torch.dtype) -> None:
    patient.module.to(dtype)
    patient.inputs = tuple(each.to(dtype) for each in patient.inputs)
    patient.data = tuple(each.to(dtype) for each in patient.data)


def copied_statistics(patient: Patient, names: Sequence[str]) -> Named:
    """The statistics of another layer of the same size."""
    found: list[str] = []
    order = patient.norms()
    for index, name in enumerate(order):
        norm = patient.part(name)
        for other in order[:index]:
            source = patient.part(other)
            alike = source.num_features == norm.num_features
            fits = alike and other < name and other not in found  # first by name too
            if fits and len(found) < len(names):
                norm.running_mean.copy_(source.running_mean)
                norm.running_var.copy_(source.running_var)
                found.append(name)
                break
    return found


def zero_weight(norm: Any) -> None:
    norm.weight.data.zero_()


def sparse_weight(norm: Any) -> None:
    norm.weight.data[: max(1, len(norm.weight) // 2)] = 0


def untouched_affine(norm: Any) -> None:
    norm.weight.data.fill_(1)
    norm.bias.data.zero_()


def identity(norm: Any) -> None:
    norm.weight.data.copy_((norm.running_var + norm.eps).sqrt())
    norm.bias.data.copy_(norm.running_mean)


def dead_channel(norm: Any) -> None:
    norm.running_var[0] = 1e-12


def no_eps_no_variance(norm: Any) -> None:
    norm.eps = 0.0
    norm.running_var[0] = 0.0


def training(patient: Patient, names: Sequence[str]) -> Named:
    """In training mode, with the data that a batch of several samples gives."""
    for name in names:
        patient.part(name).train()
    patient.inputs = patient.data
    return names


def mixed_mode(patient: Patient, names: Sequence[str]) -> Named:
    """The first layers in training mode, no more than half; one of the others learns."""
    order = patient.norms()
    count = max(1, min(len(names), len(order) // 2))
    if not any(patient.part(name).affine for name in order[count:]):
        return ()
    training(patient, order[:count])
    return WHOLE


def tiny_batch(patient: Patient, names: Sequence[str]) -> Named:
    """A training graph for two samples."""
    training(patient, patient.norms())
    patient.inputs = tuple(each[:2] for each in patient.data)
    return WHOLE


def no_statistics(patient: Patient, names: Sequence[str]) -> Named:
    for name in names:
        norm = patient.part(name)
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    patient.inputs = patient.data
    return names


def half_frozen(patient: Patient, names: Sequence[str]) -> Named:
    affine = [name for name in names if patient.part(name).affine]
    for name in affine:
        patient.part(name).weight.requires_grad_(False)
        patient.part(name).bias.requires_grad_(False)
    return training(patient, affine)


def live_momentum_zero(patient: Patient, names: Sequence[str]) -> Named:
    """In layers that learn: without weight and bias one may be meant to stay as it is."""
    learning = [name for name in names if patient.part(name).affine]
    each_norm(constant("momentum", 0.0))(patient, learning)
    return training(patient, learning)


def other_eps(patient: Patient, names: Sequence[str]) -> Named:
    """Fewer than a fifth of the layers, the others have one eps."""
    order = patient.norms()
    chosen = names[: (len(order) - 1) // 5]
    for name in order:
        patient.part(name).eps = 1e-3 if name in chosen else 1e-5
    return WHOLE if chosen else ()


def synchronized(patient: Patient, names: Sequence[str]) -> Named:
    for name in names:
        patient.put(name, nn.SyncBatchNorm.convert_sync_batchnorm(patient.part(name)))
    return names


def pruned_by_hand(patient: Patient, names: Sequence[str]) -> Named:
    """One channel fewer in weight and bias than in the statistics."""
    affine = [n for n in names if patient.part(n).affine and patient.part(n).num_features > 2]
    for name in affine:
        norm = patient.part(name)
        norm.weight = nn.Parameter(_shorter(norm.weight))
        norm.bias = nn.Parameter(_shorter(norm.bias))
    return affine


def _shorter(tensor: Tensor) -> Tensor:
    return tensor.detach()[:-1].clone()


def broken_before_export(patient: Patient, names: Sequence[str]) -> Named:
    """A variance that is NaN, where all exporters fold: behind a convolution."""
    pairs = patient.pairs()
    found = [name for name in names if isinstance(_before(patient, pairs, name), CONVOLUTIONS)]
    each_norm(value("running_var", -1, nan))(patient, found)
    return WHOLE if found else ()


def _before(patient: Patient, pairs: Mapping[str, str], name: str) -> nn.Module | None:
    return patient.part(pairs[name]) if name in pairs else None
