"""Defects of order and kind: modules put in the place of others, before or behind BatchNorms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .injectors import WHOLE, Named, training
from .patients import Patient, activated

INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class Decomposed(nn.Module):
    """A BatchNorm as one multiplication and one addition."""

    def __init__(self, norm: Any, axes: int) -> None:
        super().__init__()
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        shift = -norm.running_mean * scale + (0 if norm.bias is None else norm.bias)
        self.register_buffer("scale", scale.detach().reshape(-1, *[1] * axes))
        self.register_buffer("shift", shift.detach().reshape(-1, *[1] * axes))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Rounded(nn.Module):
    """What quantization-aware training puts behind a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, 0.05, 0, -128, 127)


class Ended(nn.Module):
    """A network, its first output as a matrix, and more layers behind it."""

    def __init__(self, network: nn.Module, *last: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.last = nn.Sequential(*last)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.network(x).flatten(1))


def behind_linear(make: Callable[[Patient, str, str], nn.Module]) -> Callable[..., Named]:
    """Puts something between a BatchNorm and the linear module before it."""

    def inject(patient: Patient, names: Sequence[str]) -> Named:
        pairs = patient.pairs()
        found = [name for name in pairs if name in names] or list(pairs)[: len(names)]
        for name in found:
            linear = pairs[name]
            patient.put(linear, nn.Sequential(patient.part(linear), make(patient, name, linear)))
        return found

    return inject


def dropout(patient: Patient, norm: str, linear: str) -> nn.Module:
    return nn.Dropout(0.3).eval()


def second_norm(patient: Patient, norm: str, linear: str) -> nn.Module:
    kept = patient.part(norm)
    made = type(kept)(kept.num_features, kept.eps)
    made.running_mean.normal_()
    made.running_var.uniform_(0.5, 2)
    made.weight.data.uniform_(0.5, 2)
    made.num_batches_tracked.copy_(kept.num_batches_tracked)
    return made.eval()


def rounding(patient: Patient, norm: str, linear: str) -> nn.Module:
    return Rounded()


def sigmoids(patient: Patient, names: Sequence[str]) -> Named:
    """Between two functions that are not linear nothing can absorb a BatchNorm."""
    fit = activated(patient) & set(patient.pairs())
    chosen = [name for name in patient.norms() if name in fit][: len(names)]
    return behind_linear(lambda *_: nn.Sigmoid())(patient, chosen) if chosen else ()


def row_norm(patient: Patient, names: Sequence[str]) -> Named:
    """LayerNorm(W) on (N, C, H, W)."""
    pairs = patient.pairs()
    made = {call.name: call.made for call in patient.calls()}
    images = [linear for linear in pairs.values() if made[linear].dim() == 4]
    found = []
    for linear in images[: len(names)]:
        width = made[linear].shape[-1]
        patient.put(linear, nn.Sequential(patient.part(linear), nn.LayerNorm(width)))
        found.append(f"{linear}.1")
    return found


def biases(patient: Patient, names: Sequence[str]) -> Named:
    pairs = patient.pairs()
    found = [name for name in pairs if name in names] or list(pairs)[: len(names)]
    for name in found:
        linear = patient.part(pairs[name])
        linear.bias = nn.Parameter(torch.randn(patient.part(name).num_features))
    return found


def folded_twice(patient: Patient, names: Sequence[str]) -> Named:
    """Folded into the weights, and left in the graph too."""
    return _folded(patient, names, keep=True)


def folded_broken(patient: Patient, names: Sequence[str]) -> Named:
    """What folding leaves of a variance that is NaN."""
    found = _folded(patient, names, keep=False)
    return WHOLE if found else ()


def _folded(patient: Patient, names: Sequence[str], keep: bool) -> Named:
    pairs = patient.pairs()
    found = [name for name in pairs if name in names] or list(pairs)[: len(names)]
    for name in found:
        norm, linear = patient.part(name), patient.part(pairs[name])
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight.detach()
        bias = torch.zeros_like(scale) if linear.bias is None else linear.bias.detach()
        beta = 0.0 if norm.bias is None else norm.bias.detach()
        shape = [1] * linear.weight.dim()
        axis = 1 if isinstance(linear, nn.ConvTranspose2d) else 0
        shape[axis] = -1
        linear.weight.data.mul_(scale.reshape(shape))
        linear.bias = nn.Parameter((bias - norm.running_mean) * scale + beta)
        if not keep:
            linear.bias.data[0] = torch.nan
            patient.put(name, nn.Identity())
    return found


def decomposed(patient: Patient, names: Sequence[str]) -> Named:
    pairs = patient.pairs()
    dims = {call.name: call.made.dim() for call in patient.calls()}
    found = [n for n in pairs if n in names] or list(pairs)[: len(names)]
    found = [name for name in found if patient.part(name).num_features > 1]
    for name in found:
        patient.put(name, Decomposed(patient.part(name), dims[name] - 2))
    return WHOLE if found else ()


def shared(patient: Patient, names: Sequence[str]) -> Named:
    """One BatchNorm behind two linear modules; a file may name it after either."""
    return [f"{first} or {second}" for first, second in _shared(patient, len(names)).items()]


def shared_in_training(patient: Patient, names: Sequence[str]) -> Named:
    twins = _shared(patient, len(names))
    training(patient, list(twins))
    return [f"{first} or {second}" for first, second in twins.items()]


def _shared(patient: Patient, count: int) -> dict[str, str]:
    """Where one BatchNorm stands now, and where too, for so many of them."""
    alone: dict[tuple[type, int], str] = {}
    twins: dict[str, str] = {}
    for name in patient.pairs():
        norm = patient.part(name)
        first = alone.pop((type(norm), norm.num_features), None)
        if first is None:
            alone[type(norm), norm.num_features] = name
        elif len(twins) < count:
            patient.put(name, patient.part(first))
            twins[first] = name
    return twins


def broken_groups(patient: Patient, names: Sequence[str]) -> Named:
    """GroupNorms in the place of BatchNorms, with a weight that is NaN."""
    for name in names:
        made = nn.GroupNorm(1, patient.part(name).num_features)
        made.weight.data[0] = torch.nan
        patient.put(name, made)
    return names


def single_groups(patient: Patient, names: Sequence[str]) -> Named:
    found = [name for name in names if patient.part(name).num_features > 1]
    dims = {call.name: call.made.dim() for call in patient.calls()}
    found = [name for name in found if dims[name] > 2]
    for name in found:
        channels = patient.part(name).num_features
        patient.put(name, nn.GroupNorm(channels, channels))
    return found


def instance_norms(patient: Patient, names: Sequence[str]) -> Named:
    """InstanceNorm that keeps the statistics of the BatchNorm it replaces."""
    dims = {call.name: call.made.dim() - 2 for call in patient.calls()}
    found = [name for name in names if dims[name] in INSTANCE]
    for name in found:
        norm = patient.part(name)
        made = INSTANCE[dims[name]](norm.num_features, affine=norm.affine, track_running_stats=True)
        made.load_state_dict(norm.state_dict())
        patient.put(name, made.eval())
    return found


def ending(make: Callable[[int], Sequence[nn.Module]], name: str | None) -> Callable[..., Named]:
    """More layers behind the first output; for networks of one input and output."""

    def inject(patient: Patient, names: Sequence[str]) -> Named:
        with torch.no_grad():
            made = patient.module(*patient.data)
        if not isinstance(made, Tensor) or made.dim() < 2 or made[0].numel() > 4096:
            return ()
        patient.inputs = patient.data
        patient.module = Ended(patient.module, *make(made[0].numel())).eval()
        return (name,)

    return inject


def normalized_output(size: int) -> Sequence[nn.Module]:
    norm: Any = nn.BatchNorm1d(size)
    norm.running_mean.normal_()
    norm.weight.data.uniform_(0.5, 2)
    norm.num_batches_tracked.fill_(1000)
    return (norm,)


def groups_of_one(size: int) -> Sequence[nn.Module]:
    return (nn.GroupNorm(size, size),)


def live_dropout(patient: Patient, names: Sequence[str]) -> Named:
    pairs = patient.pairs()
    for linear in list(pairs.values())[: len(names)]:
        patient.put(linear, nn.Sequential(patient.part(linear), nn.Dropout(0.3).train()))
    return WHOLE if pairs else ()
