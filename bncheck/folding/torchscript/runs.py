"""Runs a TorchScript module that the user trusts."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from bncheck.folding import npz
from bncheck.folding.torch.feeds import SIZES, Feed, shape_of
from bncheck.folding.torch.runs import Observed, nudged, outputs
from bncheck.folding.torch.verify import fitting
from bncheck.graph import Graph, Shape
from bncheck.readers import torchscript
from bncheck.readers.source import FileSource
from bncheck.readers.torch import zipped
from bncheck.readers.tracing import sandbox
from bncheck.readers.ziparchive import ZipArchive
from bncheck.tensor import Tensor

UNKNOWN_IMAGE = (None, 3, None, None)
RANKS = (2, 4, 3, 5)  # tried for data of which only the channels are known


@dataclass(frozen=True)
class ScriptRunner:
    """A module, of which ``load`` makes another that is the same."""

    load: Callable[[], Any]

    @cached_property
    def module(self) -> Any:
        """The module."""
        return self.load()

    def run(self, feed: Feed, sites: Sequence[str]) -> Observed:
        """See torch.runs.Runner; there are no sites."""
        return _run(self.module, feed)

    def run_nudged(self, feed: Feed, sites: Sequence[str], seed: int) -> Observed:
        """See torch.runs.Runner."""
        module = self.load()
        held = module.state_dict()
        with importlib.import_module("torch").no_grad():
            for name, tensor in nudged(held, seed).items():
                held[name].copy_(tensor)
        return _run(module, feed)


def _run(module: Any, feed: Feed) -> Observed:
    with sandbox.quiet():
        try:
            return Observed(outputs(module, feed))
        except RuntimeError as error:  # its last line says what, those before it where
            raise RuntimeError(str(error).strip().rpartition("\n")[2]) from error


def feeds(runner: ScriptRunner, path: Path, graph: Graph | None) -> Iterator[Feed]:
    """Inputs as it was traced with, else such that fit what the first layers take."""
    return fitting(runner, _candidates(path, graph), "give --inputs FILE.npz")


def given(runner: ScriptRunner, path: Path) -> Iterator[Feed]:
    """The arrays of an .npz by the names of arguments, as one feed."""
    arguments = runner.module.forward.schema.arguments[1:]
    needed = [each.name for each in arguments if not each.has_default_value()]
    others = [each.name for each in arguments if each.has_default_value()]
    held = npz.arrays(path)
    npz.require_names(path, held, needed, others)
    make = importlib.import_module("torch").from_numpy
    yield Feed((), {each.name: make(held[each.name]) for each in arguments if each.name in held})


def _candidates(path: Path, graph: Graph | None) -> Iterator[Feed]:
    """Inputs to try; of several ranks and sizes, as no layer tells space."""
    archive = ZipArchive(FileSource(path))
    traced = torchscript.traced_inputs(archive, zipped.root_of(archive))
    if traced:
        yield Feed(tuple(_random(each.shape, each.dtype) for each in traced))
    if graph is None:
        return
    wanted = [shape_of(graph, value) or UNKNOWN_IMAGE for value in graph.inputs]
    dtype = _dtype(graph)
    for rank, size in product(RANKS, SIZES):
        shapes = [shape if len(shape) > 2 else shape + (None,) * (rank - 2) for shape in wanted]
        yield Feed(tuple(_random(_filled(shape, size), dtype) for shape in shapes))


def _dtype(graph: Graph) -> str:
    """That of the first parameter: data that is another does not fit it."""
    held = (tensor for node in graph.nodes for tensor in node.parameters.values())
    dtypes = (tensor.dtype for tensor in held if isinstance(tensor, Tensor))
    return next((dtype for dtype in dtypes if "float" in dtype), "float32")


def _filled(shape: Shape, size: int) -> tuple[int, ...]:
    first, *rest = shape
    return (first or 2, *(size if each is None else each for each in rest))


def _random(shape: tuple[int, ...], dtype: str) -> Any:
    torch: Any = importlib.import_module("torch")
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    kind = getattr(torch, dtype)
    return numbers.to(kind) if kind.is_floating_point else numbers.gt(0).to(kind)
