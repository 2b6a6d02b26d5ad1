"""Checking a module of this process, beside tracing it.

``python live.py RUNS`` prints a JSON list of Measured; a process of its own, as it imports torch.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter

MODELS = ("resnet50", "densenet121", "mobilenetv2_w1")


@dataclass(frozen=True, slots=True)
class Measured:
    """Median seconds of each way to look at one module."""

    title: str
    check: float
    symbolic_trace: float
    check_with_inputs: float
    export: float


def _measured(name: str, runs: int) -> Measured:
    import torch
    from pytorchcv.model_provider import get_model  # type: ignore[import-untyped]

    import bncheck
    from benchmarks.reading.model_files import train

    model = get_model(name, pretrained=False).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            train(module)
    image = torch.zeros(1, 3, 224, 224)
    ways: list[Callable[[], object]] = [
        lambda: bncheck.check(model),
        lambda: torch.fx.symbolic_trace(model),
        lambda: bncheck.check(model, inputs=image),
        lambda: torch.export.export(model, (image,)),
    ]
    rounds = [tuple(map(_seconds, ways)) for _ in range(runs + 1)]  # the first warms up
    return Measured(name, *map(median, zip(*rounds[1:], strict=True)))


def _seconds(way: Callable[[], object]) -> float:
    start = perf_counter()
    way()
    return perf_counter() - start


def _all(runs: int) -> Iterator[Measured]:
    return (_measured(name, runs) for name in MODELS)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps([asdict(each) for each in _all(int(sys.argv[1]))]))
