"""Defects of checkpoints: names of keys, hyper-parameters, the optimizer's groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .formats import FORMATS, Format, Inputs, checkpoint

LEGACY = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
Names = Sequence[str | None]
State = dict[str, Tensor]


def unchanged(names: Names) -> Mapping[str, Format]:
    """All formats."""
    return FORMATS


def only(*formats: str) -> Callable[[Names], Mapping[str, Format]]:
    """Those that can hold it at all."""
    return lambda names: {name: FORMATS[name] for name in formats}


def rewritten(change: Callable[[State, Names], State]) -> Callable[[Names], Mapping[str, Format]]:
    """The formats of plain tensors, with other keys."""

    def formats(names: Names) -> Mapping[str, Format]:
        def state(module: nn.Module) -> State:
            kept = {key: tensor.clone() for key, tensor in module.state_dict().items()}
            return change(kept, names)

        def as_state_dict(module: nn.Module, inputs: Inputs, path: Path) -> None:
            torch.save(state(module), path)

        def as_checkpoint(module: nn.Module, inputs: Inputs, path: Path) -> None:
            torch.save({"epoch": 3, "state_dict": state(module)}, path)

        def as_safetensors(module: nn.Module, inputs: Inputs, path: Path) -> None:
            from safetensors.torch import save_file

            save_file(state(module), str(path))

        return {
            "state_dict": (".pth", as_state_dict),
            "checkpoint": (".ckpt", as_checkpoint),
            "safetensors": (".safetensors", as_safetensors),
        }

    return formats


def legacy_names(state: State, names: Names) -> State:
    """As TensorFlow names them."""
    found = {}
    for key, tensor in state.items():
        layer, _, last = key.rpartition(".")
        found[f"{layer}.{LEGACY.get(last, last)}" if layer in names else key] = tensor
    return found


def without_counters(state: State, names: Names) -> State:
    """As before PyTorch 0.4.1."""
    gone = {f"{name}.num_batches_tracked" for name in names}
    return {key: tensor for key, tensor in state.items() if key not in gone}


def hyper_parameters(names: Names) -> Mapping[str, Format]:
    """A Lightning checkpoint that says what the batch was; the same network without."""

    def save(module: nn.Module, inputs: Inputs, path: Path) -> None:
        torch.save({**checkpoint(module), "hyper_parameters": {"batch_size": 2, "lr": 0.1}}, path)

    plain = ("state_dict", "safetensors", "module")
    return {"checkpoint": (".ckpt", save), **{name: FORMATS[name] for name in plain}}


def decayed(names: Names) -> Mapping[str, Format]:
    """An optimizer made from named parameters, with weight decay on the layers that are named."""

    def save(module: nn.Module, inputs: Inputs, path: Path) -> None:
        held: dict[str, Any] = dict(module.named_parameters())
        decay = [(key, p) for key, p in held.items() if key.rpartition(".")[0] in names]
        rest = [(key, p) for key, p in held.items() if key.rpartition(".")[0] not in names]
        groups = [
            {"params": decay, "weight_decay": 0.02},
            {"params": rest, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=0.1)
        optimized = {"optimizer": optimizer.state_dict(), "epoch": 3}
        torch.save({"state_dict": module.state_dict(), **optimized}, path)

    plain = ("state_dict", "safetensors", "module", "ONNX kept", "pt2")
    return {"checkpoint": (".ckpt", save), **{name: FORMATS[name] for name in plain}}
