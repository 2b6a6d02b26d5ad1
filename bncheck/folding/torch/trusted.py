"""Runs PyTorch's files that the user trusts: torch unpickles records of them to load them."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bncheck.errors import CannotFold
from bncheck.folding.options import Options
from bncheck.folding.result import Verification
from bncheck.folding.torch.feeds import SIZES, Feed, shape_of, variations
from bncheck.folding.torch.runs import Observed, nudged, outputs
from bncheck.folding.torch.verify import line, verify
from bncheck.graph import Graph, Shape
from bncheck.model import Model
from bncheck.readers import torchscript
from bncheck.readers.source import FileSource
from bncheck.readers.torch import zipped
from bncheck.readers.ziparchive import ZipArchive

NEEDED = "verification needs torch: pip install 'bncheck[torch]', or fold with --no-verify"
PLACEHOLDER = "placeholder"
UNKNOWN_IMAGE = (None, 3, None, None)
RANKS = (2, 4, 3, 5)  # tried for data of which only the channels are known


def compare(
    model: Model, original: Path, folded: Path, sites: Mapping[str, str], options: Options
) -> Verification:
    """Load both files with torch, and run them on the same inputs.

    ``sites`` are values of the original's graph, with their names in the folded one. Raises
    CannotFold where torch is missing, or cannot load or run one of the two.
    """
    make = ProgramRunner if model.format == "torch-export" else ScriptRunner
    before, after = make(original, {site: site for site in sites}), make(folded, sites)
    feeds = before.feeds(model.graph) if options.inputs is None else _given(before, options.inputs)
    seen = [*sites] if isinstance(before, ProgramRunner) else []
    with _quiet():
        return verify(before, after, feeds, seen, options.tolerance)


class ProgramRunner:
    """An exported program, node by node."""

    def __init__(self, path: Path, sites: Mapping[str, str]) -> None:
        self._program = _loaded(path, "torch.export")
        self._sites = sites
        self._state = {**self._program.state_dict, **self._program.constants}
        specs = self._program.graph_signature.input_specs
        self.inputs = [spec.arg.name for spec in specs if spec.kind.name == "USER_INPUT"]

    def feeds(self, graph: Graph) -> Iterator[Feed]:
        """The inputs that the program was saved with, or some like those that it was made with."""
        saved = self._program.example_inputs
        feed = Feed(*saved) if saved else Feed(tuple(self._like_examples()))
        yield feed
        yield from variations(feed)

    def _like_examples(self) -> Iterator[Any]:
        torch: Any = importlib.import_module("torch")
        random = torch.Generator().manual_seed(0)
        nodes = {n.name: n for n in self._program.graph.nodes if n.op == PLACEHOLDER}
        for name in self.inputs:
            made = nodes[name].meta.get("val")
            if not isinstance(made, torch.Tensor):
                raise CannotFold(f"the program takes {name!r}, which is no tensor; give --inputs")
            shape = [size if isinstance(size, int) else 2 for size in made.shape]
            numbers = torch.randn(shape, generator=random)
            yield (
                numbers.to(made.dtype) if made.is_floating_point() else numbers.gt(0).to(made.dtype)
            )

    def run(self, feed: Feed, sites: Sequence[str]) -> Observed:
        """See Runner."""
        return self._run(feed, sites, self._state)

    def run_nudged(self, feed: Feed, sites: Sequence[str]) -> Observed:
        """See Runner."""
        tensors = {n: held for n, held in self._state.items() if hasattr(held, "shape")}
        return self._run(feed, sites, {**self._state, **nudged(tensors)})

    def _run(self, feed: Feed, sites: Sequence[str], state: Mapping[str, Any]) -> Observed:
        tree: Any = importlib.import_module("torch.utils._pytree")
        fx: Any = importlib.import_module("torch.fx")
        observed = Observed()
        names = {self._sites[site]: site for site in sites if site in self._sites}

        class Listening(fx.Interpreter):  # type: ignore[misc]
            def run_node(self, node: Any) -> Any:
                made = super().run_node(node)
                if node.name in names:
                    observed.listen(names[node.name], made)
                return made

        def call(*args: Any, **kwargs: Any) -> Any:
            given = iter(tree.tree_flatten((args, kwargs))[0])
            specs = self._program.graph_signature.input_specs
            every = [next(given) if s.target is None else state[s.target] for s in specs]
            return self._returned(Listening(self._program.graph_module).run(*every))

        with importlib.import_module("torch").no_grad():
            observed.outputs = outputs(call, feed)
        return observed

    def _returned(self, made: Sequence[Any]) -> list[Any]:
        specs = self._program.graph_signature.output_specs
        return [v for v, spec in zip(made, specs, strict=True) if spec.kind.name == "USER_OUTPUT"]


class ScriptRunner:
    """A TorchScript module."""

    def __init__(self, path: Path, sites: Mapping[str, str]) -> None:
        self._path = path
        self._module = _loaded(path, "torch.jit")
        arguments = self._module.forward.schema.arguments[1:]
        self.inputs = [each.name for each in arguments]

    def feeds(self, graph: Graph) -> Iterator[Feed]:
        """Inputs as it was traced with, else such that fit what the first layers take."""
        problem: Exception | None = None
        for feed in _candidates(self._path, graph):
            try:
                self.run(feed, ())
            except Exception as error:  # a size that does not fit
                problem = problem or error
            else:
                yield feed
                yield from variations(feed)
                return
        why = line(problem) if problem else "it takes none"
        raise CannotFold(f"the model does not run on random inputs: {why}; give --inputs FILE.npz")

    def run(self, feed: Feed, sites: Sequence[str]) -> Observed:
        """See Runner."""
        return self._run(self._module, feed)

    def run_nudged(self, feed: Feed, sites: Sequence[str]) -> Observed:
        """See Runner."""
        other = _loaded(self._path, "torch.jit")
        held = other.state_dict()
        for name, tensor in nudged(held).items():
            held[name].copy_(tensor)
        return self._run(other, feed)

    def _run(self, module: Any, feed: Feed) -> Observed:
        with importlib.import_module("torch").no_grad():
            return Observed(outputs(module, feed))


def _candidates(path: Path, graph: Graph) -> Iterator[Feed]:
    """Inputs to try; of several ranks and sizes, as no layer tells space."""
    archive = ZipArchive(FileSource(path))
    traced = torchscript.traced_inputs(archive, zipped.root_of(archive))
    if traced:
        yield Feed(tuple(_random(each.shape, each.dtype) for each in traced))
    wanted = [shape_of(graph, value) or UNKNOWN_IMAGE for value in graph.inputs]
    for rank, size in product(RANKS, SIZES):
        shapes = [shape if len(shape) > 2 else shape + (None,) * (rank - 2) for shape in wanted]
        yield Feed(tuple(_random(_filled(shape, size)) for shape in shapes))


def _filled(shape: Shape, size: int) -> tuple[int, ...]:
    first, *rest = shape
    return (first or 2, *(size if each is None else each for each in rest))


def _random(shape: tuple[int, ...], dtype: str = "float32") -> Any:
    torch: Any = importlib.import_module("torch")
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    kind = getattr(torch, dtype)
    return numbers.to(kind) if kind.is_floating_point else numbers.gt(0).to(kind)


def _loaded(path: Path, module: str) -> Any:
    try:
        load: Callable[[Any], Any] = importlib.import_module(module).load
    except ImportError as error:
        raise CannotFold(NEEDED) from error
    try:
        with _quiet(), path.open("rb") as file:
            return load(file)
    except Exception as error:  # whatever torch, or code of the file, raises
        raise CannotFold(f"{path.name}: torch cannot load it: {line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings of what it loads."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _given(runner: ProgramRunner | ScriptRunner, path: Path) -> Iterable[Feed]:
    """The arrays of an .npz by the names of inputs, as one feed."""
    torch: Any = importlib.import_module("torch")
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = [held[name] for name in runner.inputs]
    except (OSError, ValueError, KeyError) as error:
        names = ", ".join(runner.inputs)
        raise CannotFold(f"{path}: no .npz with an array for each of: {names}") from error
    return [Feed(tuple(torch.from_numpy(array) for array in arrays))]
