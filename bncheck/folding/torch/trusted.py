"""Runs PyTorch's files that the user trusts: torch unpickles records of them to load them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bncheck.errors import CannotFold
from bncheck.facts import Unknown
from bncheck.folding import npz
from bncheck.folding.options import Options
from bncheck.folding.program import inputs
from bncheck.folding.program.runs import ProgramRunner
from bncheck.folding.result import Verification
from bncheck.folding.torch import feeds
from bncheck.folding.torch.feeds import Feed
from bncheck.folding.torch.runs import ModuleRunner, Runner
from bncheck.folding.torch.surgery import Surgery
from bncheck.folding.torch.verify import fitting, line, verify
from bncheck.folding.torchscript import runs as scripts
from bncheck.folding.weights.pickled import Pickled
from bncheck.graph import Graph
from bncheck.model import Model
from bncheck.readers import tracing
from bncheck.readers.live_module import LiveModule
from bncheck.readers.tracing import sandbox

NEEDED = "verification needs torch: pip install 'bncheck[torch]', or fold with --no-verify"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file that torch has loaded, and arguments that it takes."""

    runner: Runner
    feeds: Iterable[Feed]


def compare(
    model: Model, original: Path, folded: Path, sites: Mapping[str, str], options: Options
) -> Verification:
    """Load both files with torch, and run them on the same inputs.

    ``sites`` are values of the original's graph, with their names in the folded one. Raises
    CannotFold where torch is missing, or cannot load or run one of the two.
    """
    is_program = model.format == "torch-export"
    seen: Sequence[str] = [*sites] if is_program else ()
    load = program if is_program else script
    before = load(original, model, options.inputs, {site: site for site in sites})
    after = load(folded, model, None, sites)
    return verify(before.runner, after.runner, before.feeds, seen, options.tolerance)


def program(
    path: Path, model: Model, given: Path | None, taps: Mapping[str, str] | None = None
) -> Loaded:
    """A program of torch.export; ``taps`` as of its runner."""
    found = _loaded(path, "torch.export")
    tensors = {**found.state_dict, **found.constants}
    nudged = [name for name, held in tensors.items() if hasattr(held, "shape")]
    arrays = None if given is None else _for_program(found, given)
    return Loaded(ProgramRunner(found, taps or {}, nudged), inputs.feeds(found, arrays))


def _for_program(found: Any, path: Path) -> Mapping[str, Any]:
    held = npz.arrays(path)
    names = [name for name in found.graph_signature.user_inputs if isinstance(name, str)]
    npz.require_names(path, held, names)
    make = importlib.import_module("torch").from_numpy
    return {name: make(array) for name, array in held.items()}


def script(
    path: Path, model: Model, given: Path | None, taps: Mapping[str, str] | None = None
) -> Loaded:
    """A TorchScript module, inside which nothing is seen."""
    runner = scripts.ScriptRunner(partial(_loaded, path, "torch.jit"))
    if given is not None:
        return Loaded(runner, scripts.given(runner, given))
    graph = model.facts.get("graph")
    known = graph if isinstance(graph, Graph) else None
    return Loaded(runner, scripts.feeds(runner, path, known))


def _loaded(path: Path, module: str) -> Any:
    try:
        load: Any = importlib.import_module(module).load
        importlib.import_module("torch")
    except ImportError as error:
        raise CannotFold(NEEDED) from error
    try:
        with sandbox.quiet(), path.open("rb") as file:
            return load(file)
    except Exception as error:  # whatever torch, or code of the file, raises
        raise CannotFold(f"{path.name}: torch cannot load it: {line(error)}") from error


def module(path: Path, model: Model, given: Path | None) -> Loaded:
    """A pickled module, in eval mode."""
    found = Pickled(path, model, trust=True).module.eval()
    nudged = [name for name, _ in found.named_parameters()]
    runner = ModuleRunner(found, Surgery(), False, nudged)
    if given is not None:
        make = importlib.import_module("torch").from_numpy
        arrays = {name: make(array) for name, array in npz.arrays(given).items()}
        return Loaded(runner, [feeds.given(found, arrays)])
    trace = tracing.trace(LiveModule(found), None)
    if isinstance(trace, Unknown):
        raise CannotFold(f"{path}: the module {trace.why}; give --inputs FILE.npz")
    candidates = feeds.derived(found, trace.graph)
    return Loaded(runner, fitting(runner, candidates, "give --inputs FILE.npz"))
