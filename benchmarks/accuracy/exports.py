"""A healthy network, exported once; with the numbers of broken ones it is written again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from .formats import FORMATS, Inputs, write

Save = Callable[[dict[str, Tensor], Path], None]


class Exports:
    """What a network was exported to, by format; each is made when it is first asked for."""

    def __init__(self, module: nn.Module, inputs: Inputs) -> None:
        self._module = module
        self._inputs = inputs
        self._kept: dict[str, Save] = {}

    def write(self, format: str, module: nn.Module, path: Path) -> None:
        """The export in that format, with the tensors of the module given."""
        if format not in self._kept:
            self._kept[format] = self._made(format)
        self._kept[format](module.state_dict(), path)

    def _made(self, format: str) -> Save:
        with TemporaryDirectory() as folder:
            path = write(FORMATS[format], self._module, self._inputs, Path(folder))
            return LOADERS[path.suffix](path)


def _scripted(path: Path) -> Save:
    loaded = torch.jit.load(str(path))

    def save(state: dict[str, Tensor], to: Path) -> None:
        loaded.load_state_dict(state, strict=False)
        loaded.save(str(to))

    return save


def _exported(path: Path) -> Save:
    program = torch.export.load(path)

    def save(state: dict[str, Tensor], to: Path) -> None:
        with torch.no_grad():
            for name, tensor in program.state_dict.items():
                tensor.copy_(state[name])
        torch.export.save(program, to)

    return save


def _onnx(path: Path) -> Save:
    import onnx
    from onnx import numpy_helper

    model: Any = onnx.load(path)

    def save(state: dict[str, Tensor], to: Path) -> None:
        for held in model.graph.initializer:
            tensor = state.get(held.name)
            if tensor is not None and tuple(tensor.shape) == tuple(held.dims):
                fresh = numpy_helper.from_array(tensor.detach().numpy(), held.name)
                held.CopyFrom(fresh)
        onnx.save(model, to)

    return save


LOADERS: dict[str, Callable[[Path], Save]] = {
    ".pt": _scripted,
    ".pt2": _exported,
    ".onnx": _onnx,
}
REUSED = (
    "TorchScript traced",
    "TorchScript scripted",
    "pt2",
    "ONNX kept",
    "ONNX dynamo plain",
)
