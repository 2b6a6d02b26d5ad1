"""All rules over a model of very many norm layers, beside reading it.

``python judging.py RUNS`` prints a JSON list of Measured: a process of its own, with torch in it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

LAYERS = 2_000
CHANNELS = 64


@dataclass(frozen=True, slots=True)
class Measured:
    """Median seconds: to read the structure, the values of all norm layers, and to judge them."""

    title: str
    layers: int
    structure: float
    values: float
    rules: float


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    import torch
    from torch import nn

    from benchmarks.reading.model_files import train

    pairs = [(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.BatchNorm2d(CHANNELS)) for _ in range(LAYERS)]
    for _, norm in pairs:
        train(norm)
    model = nn.Sequential(*(layer for pair in pairs for layer in pair)).eval()
    image = torch.zeros(1, CHANNELS, 2, 2)

    def onnx(path: Path) -> None:
        preserve = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(model, (image,), path, dynamo=False, training=preserve)

    writers: dict[str, tuple[str, Callable[[Path], object]]] = {
        "state_dict": ("a.pth", lambda path: torch.save(model.state_dict(), path)),
        "pickled module": ("b.pt", lambda path: torch.save(model, path)),
        "TorchScript": ("c.pt", lambda path: torch.jit.save(torch.jit.trace(model, image), path)),
        "ONNX": ("d.onnx", onnx),
    }
    for title, (name, write) in writers.items():
        write(folder / name)
        yield title, folder / name


def _measured(title: str, path: Path, runs: int) -> Measured:
    _once(path)  # what a first run imports is counted elsewhere
    layers, *figures = zip(*(_once(path) for _ in range(runs)), strict=True)
    structure, values, rules = map(median, figures)
    return Measured(title, layers[0], structure, values, rules)


def _once(path: Path) -> tuple[int, float, float, float]:
    """How many layers were judged, and the seconds of each step."""
    from bncheck import readers
    from bncheck.configuration.settings import Settings, plan
    from bncheck.engine import assess

    decided = plan(Settings())
    times = [perf_counter()]
    (model,) = readers.read(path)
    times.append(perf_counter())
    for layer in model.layers:
        for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            assert tensor is not None and tensor.values
    times.append(perf_counter())
    assess(model, decided.rules, decided.policy)
    times.append(perf_counter())
    structure, values, rules = (end - begin for begin, end in pairwise(times))
    return len(model.layers), structure, values, rules


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the TorchScript exporter says that it is deprecated
    with tempfile.TemporaryDirectory() as scratch:
        found = [_measured(*file, int(sys.argv[1])) for file in _files(Path(scratch))]
    print(json.dumps([asdict(each) for each in found]))
