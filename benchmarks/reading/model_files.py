"""Builds the model files that are measured: a healthy resnet50 of 53 BatchNorm layers.

``python model_files.py FORMAT BYTES FILE`` writes one file (and, for onnx-external, its data beside
it). A larger one has the same norm layers and a deeper classifier. It is a process of its own, so
that the one that measures stays small.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from pytorchcv.model_provider import get_model  # type: ignore[import-untyped]
from torch import nn

FEATURES = 2048
CLASSES = 1000
BLOCK_BYTES = 128 << 20  # of the two matrices of a classifier's block, together


def resnet50(size: int) -> nn.Module:
    """In eval mode with plausible statistics, and about ``size`` bytes large (at least its own)."""
    torch.manual_seed(0)
    model: nn.Module = get_model("resnet50", pretrained=False)
    missing = size - sum(p.nbytes for p in model.parameters())
    if missing > 0:
        model.output = nn.Sequential(*_blocks(missing), nn.Linear(FEATURES, CLASSES))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            _train(module)
    return model.eval()


def _blocks(size: int) -> list[nn.Module]:
    count = math.ceil(size / BLOCK_BYTES)
    width = size // (count * 2 * FEATURES * torch.float32.itemsize)
    return [
        layer
        for _ in range(count)
        for layer in (nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, FEATURES))
    ]


@torch.no_grad()
def _train(norm: nn.BatchNorm2d) -> None:
    """What a BatchNorm looks like after training."""
    norm.weight.uniform_(0.5, 1.5)
    norm.bias.normal_()
    statistics = dict(norm.named_buffers())
    statistics["running_mean"].normal_()
    statistics["running_var"].uniform_(0.5, 2.0)
    statistics["num_batches_tracked"].fill_(10_000)


def _state_dict(model: nn.Module, path: Path) -> None:
    torch.save(model.state_dict(), path)


def _module(model: nn.Module, path: Path) -> None:
    torch.save(model, path)


def _safetensors(model: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(model.state_dict(), path)


def _onnx(model: nn.Module, path: Path) -> None:
    """By the TorchScript exporter: what BatchNorm is left as, and weights inline up to 2 GB."""
    image = torch.zeros(1, 3, 224, 224)
    preserve = torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(model, (image,), path, dynamo=False, training=preserve)


def _onnx_external(model: nn.Module, path: Path) -> None:
    import onnx

    _onnx(model, path)
    proto = onnx.load(path)
    onnx.save(proto, path, save_as_external_data=True, location=f"{path.name}.data")


WRITERS: Mapping[str, Callable[[nn.Module, Path], None]] = {
    "torch-state-dict": _state_dict,
    "torch-module": _module,
    "safetensors": _safetensors,
    "onnx": _onnx,
    "onnx-external": _onnx_external,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the TorchScript exporter says that it is deprecated
    form, size, file = sys.argv[1:]
    WRITERS[form](resnet50(int(size)), Path(file))
