"""The tools that fold modules: each in a process of its own, beside ``bncheck.fold``.

``python -m benchmarks.folding.torch_tools NAME NETWORK`` prints as JSON what was left, how exact it
is and the CPU seconds that folding alone took.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.folding.networks import network

Fold = Callable[[nn.Module, Tensor], Any]


class _Operators(TorchDispatchMode):
    """Counts what a model runs, and how much of it normalizes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def _bncheck(model: nn.Module, data: Tensor, verify: bool) -> Any:
    import bncheck

    return bncheck.fold(model, inputs=data, verify=verify).model


def _fx(model: nn.Module, data: Tensor) -> Any:
    from torch.fx.experimental.optimization import fuse

    return fuse(model)


def _fuse_fx(model: nn.Module, data: Tensor) -> Any:
    from torch.ao.quantization.quantize_fx import fuse_fx

    return fuse_fx(model)


def _freeze(model: nn.Module, data: Tensor) -> Any:
    return torch.jit.freeze(torch.jit.trace(model, data, check_trace=False))


TORCH_TOOLS: dict[str, Fold] = {
    "bncheck.fold": lambda model, data: _bncheck(model, data, True),
    "bncheck.fold, verify=False": lambda model, data: _bncheck(model, data, False),
    "torch.fx fuse": _fx,
    "fuse_fx": _fuse_fx,
    "torch.jit.freeze": _freeze,
    "as it was": lambda model, data: model,
}


@torch.no_grad()
def main() -> None:
    tool, name = sys.argv[1:]
    warnings.simplefilter("ignore")
    model, data = network(name)
    start = process_time()
    folded = TORCH_TOOLS[tool](model, data)
    seconds = process_time() - start
    names = _names(folded, data)
    norms = sum("batch_norm" in each for each in names)
    truth = model.double()(data.double())
    error = (
        folded.float()(data).double() - truth
    ).square().mean().sqrt() / truth.square().mean().sqrt()
    figures = {"batch_norms": norms, "nodes": len(names), "error": float(error), "seconds": seconds}
    print(json.dumps(figures))


def _names(model: Any, data: Tensor) -> list[str]:
    """The operators of a model: of a script its graph's, of a module what it runs."""
    if isinstance(model, torch.jit.ScriptModule):
        return [node.kind() for node in model.inlined_graph.nodes()]
    with _Operators() as seen:
        model(data)
    return seen.names


if __name__ == "__main__":
    main()
