"""Sound models of every format that bncheck reads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import onnx_seeds
import torch_seeds
from seed import Seed

FORMATS: tuple[Callable[[], Iterator[Seed]], ...] = (
    torch_seeds.torch_zips,
    torch_seeds.legacy,
    torch_seeds.packages,
    torch_seeds.distributed,
    torch_seeds.torchscripts,
    torch_seeds.exported,
    torch_seeds.safetensors,
    torch_seeds.folders,
    onnx_seeds.onnx_models,
    onnx_seeds.ort_models,
)


def all_seeds() -> tuple[Seed, ...]:
    """The seeds of every format. Needs torch, onnx, onnxruntime and safetensors."""
    import torch

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(seed for make in FORMATS for seed in make())
