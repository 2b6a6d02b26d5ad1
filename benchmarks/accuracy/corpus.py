"""Healthy networks by name: real architectures, with the numbers that training leaves.

Trained weights are not part of the packages. So weights are random and of uneven size, gains and
shifts are drawn as training leaves them, and the running statistics are those of data that runs
through the network: they fit the weights.
"""

from __future__ import annotations

import importlib
import os
import warnings
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .names import AS_PUBLISHED, MONAI, PYTORCHCV
from .settle import settle
from .transformers_names import RECIPES, VOCABULARY

SAMPLES = 8  # that statistics are taken from
Shapes = Mapping[str, tuple[int, ...]]  # without the batch, by argument
INTERPOLATIONS = {1: "linear", 2: "bilinear", 3: "trilinear"}  # by axes of space
PATCH = 8  # positions over which a signal changes


class Network(NamedTuple):
    """A healthy network in eval mode, arguments of a call of one sample, and of several.

    ``accuracy`` on data that it was not trained on, where it was trained.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    data: tuple[Tensor, ...]
    accuracy: float | None = None


class Call(nn.Module):
    """A network that takes its arguments by name, and gives nothing but tensors."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: Tensor) -> Any:
        made = self.model(**dict(zip(self.names, inputs, strict=True)), return_dict=False)
        return tuple(_tensors(made))


def _tensors(made: Any) -> list[Tensor]:
    if isinstance(made, Tensor):
        return [made]
    parts = made.values() if isinstance(made, Mapping) else made
    nested = isinstance(made, tuple | list | Mapping)
    return [tensor for part in parts for tensor in _tensors(part)] if nested else []


def network(name: str) -> Network:
    """A network of names.NAMES; equal names, equal numbers."""
    warnings.filterwarnings("ignore")
    torch.manual_seed(zlib.crc32(name.encode()))
    module, shapes = _built(name)
    data = tuple(_example(argument, shape) for argument, shape in shapes.items())
    settle(module.eval(), data)
    return Network(module, tuple(each[:1] for each in data), data)


def _built(name: str) -> tuple[nn.Module, Shapes]:
    if name in PYTORCHCV:
        return _of_pytorchcv(name)
    if name.startswith("transformers "):
        return _of_transformers(name.removeprefix("transformers "))
    if name in MONAI:
        return _of_monai(name)
    from .custom import BUILDERS

    build, shape = BUILDERS[name]
    return build(), {"x": shape}


def _of_pytorchcv(name: str) -> tuple[nn.Module, Shapes]:
    import numpy as np

    np.int = int  # type: ignore[attr-defined]  # what some architectures count with
    provider = importlib.import_module("pytorchcv.model_provider")
    size = PYTORCHCV[name]
    options = {} if name in AS_PUBLISHED else {"in_size": (size, size)}
    module = provider.get_model(name, pretrained=False, **options)
    features = getattr(module, "features", None)
    if isinstance(getattr(features, "final_pool", None), nn.AvgPool2d):
        features.final_pool = nn.AdaptiveAvgPool2d(1)  # the same for images of any size
    return module, {"x": (3, size, size)}


def _of_transformers(name: str) -> tuple[nn.Module, Shapes]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    library = importlib.import_module("transformers")
    library.logging.set_verbosity_error()
    model, kind, options, shapes = RECIPES[name]
    config = getattr(library, kind)(**options)
    config._attn_implementation = "eager"  # what both exporters take
    return Call(getattr(library, model)(config), tuple(shapes)), shapes


def _of_monai(name: str) -> tuple[nn.Module, Shapes]:
    kind, options, shape = MONAI[name]
    made = getattr(importlib.import_module("monai.networks.nets"), kind)(**options)
    return made, {"x": shape}


def _example(argument: str, shape: tuple[int, ...]) -> Tensor:
    if argument.endswith("_ids"):
        return torch.randint(1, VOCABULARY, (SAMPLES, *shape))
    noise = torch.randn(SAMPLES, *shape)
    if len(shape) - 1 not in INTERPOLATIONS:
        return noise
    coarse = torch.randn(SAMPLES, shape[0], *(max(1, size // PATCH) for size in shape[1:]))
    smooth = functional.interpolate(coarse, shape[1:], mode=INTERPOLATIONS[len(shape) - 1])
    return smooth + 0.3 * noise
