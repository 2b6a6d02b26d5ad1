"""One network as the files that people make of it; each way within a limit of time."""

from __future__ import annotations

import io
import signal
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Inputs = tuple[Tensor, ...]
Write = Callable[[nn.Module, Inputs, Path], object]
Format = tuple[str, Write]  # how the name of the file ends, and who writes it
OPSET = 17
SECONDS = 120  # that one format may take


class TooSlow(BaseException):
    """A format took longer than its limit; a BaseException, which exporters do not swallow."""


def write(format: Format, module: nn.Module, inputs: Inputs, folder: Path) -> Path:
    """The file of a network in a format. Raises what the exporter raises, TooSlow too."""
    suffix, make = format
    path = folder / f"model{suffix}"
    with _limited(SECONDS), _silence(), torch.no_grad():
        make(module, inputs, path)
    return path


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(signum: int, frame: types.FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _silence() -> Iterator[None]:
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def checkpoint(module: nn.Module) -> dict[str, Any]:
    """What a training script saves: the optimizer has its state, weight decay spares norms."""
    decayed = [p for p in module.parameters() if p.dim() > 1]
    spared = [p for p in module.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": spared, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD([g for g in groups if g["params"]], lr=0.1, momentum=0.9)
    for parameter in module.parameters():
        if parameter.requires_grad:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return {
        "epoch": 89,
        "arch": "network",
        "best_acc1": 71.3,
        "state_dict": module.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def _safetensors(module: nn.Module, inputs: Inputs, path: Path) -> None:
    from safetensors.torch import save_model

    save_model(module, str(path))


def _scripted(module: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.jit.script(module).save(str(path))


def _traced(module: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.jit.trace(module, inputs, check_trace=False, strict=False).save(str(path))


@lru_cache(maxsize=1)
def _program(module: nn.Module, inputs: Inputs) -> torch.export.ExportedProgram:
    """Made once for the three formats that begin with it."""
    return torch.export.export(module, inputs)


@lru_cache(maxsize=1)
def _onnx_program(module: nn.Module, inputs: Inputs) -> Any:
    program = _program(module, inputs)
    return torch.onnx.export(program, dynamo=True, optimize=False, verbose=False)


def _exported(module: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.export.save(_program(module, inputs), path)


def _onnx_kept(module: nn.Module, inputs: Inputs, path: Path) -> None:
    """BatchNorms stay in the graph."""
    mode = torch.onnx.TrainingMode.PRESERVE
    onnx_by_torchscript(module, inputs, path, training=mode, do_constant_folding=False)


def onnx_by_torchscript(
    module: nn.Module, inputs: Inputs, path: Path, opset_version: int = OPSET, **options: Any
) -> None:
    """Export by the TorchScript exporter; ``options`` are its own."""
    version = {"dynamo": False, "opset_version": opset_version}
    torch.onnx.export(module, inputs, str(path), **version, **options)


def _dynamo_plain(module: nn.Module, inputs: Inputs, path: Path) -> None:
    _onnx_program(module, inputs).save(path)


def _dynamo(module: nn.Module, inputs: Inputs, path: Path) -> None:
    """As torch.onnx.export(optimize=True), its default, goes on."""
    program = _onnx_program(module, inputs)
    program.optimize()
    program.save(path)
    _onnx_program.cache_clear()  # it is another program now


FORMATS: dict[str, Format] = {
    "state_dict": (".pth", lambda module, inputs, path: torch.save(module.state_dict(), path)),
    "checkpoint": (".ckpt", lambda module, inputs, path: torch.save(checkpoint(module), path)),
    "module": (".pt", lambda module, inputs, path: torch.save(module, path)),
    "safetensors": (".safetensors", _safetensors),
    "TorchScript traced": (".pt", _traced),
    "TorchScript scripted": (".pt", _scripted),
    "pt2": (".pt2", _exported),
    "ONNX kept": (".onnx", _onnx_kept),
    "ONNX": (".onnx", onnx_by_torchscript),
    "ONNX dynamo plain": (".onnx", _dynamo_plain),
    "ONNX dynamo": (".onnx", _dynamo),
}
