"""Runs an ExportedProgram, with taps on the values that are to be compared."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bncheck.folding.torch.feeds import Feed
from bncheck.folding.torch.runs import Observed, listening, named, nudged, outputs
from bncheck.folding.torch.surgery import as_it_was
from bncheck.readers.tracing import sandbox

TAP = "bncheck_tap_"


@dataclass(frozen=True)
class ProgramRunner:
    """A program; ``taps`` are nodes by the names under which they are listened to.

    ``nudged`` are qualified names of tensors.
    """

    program: Any
    taps: Mapping[str, str] = field(default_factory=dict)
    nudged: Sequence[str] = ()

    @cached_property
    def module(self) -> Any:
        """The program as a module."""
        module = self.program.module()
        nodes = {node.name: node for node in module.graph.nodes}
        for number, value in enumerate(self.taps.values()):
            if value in nodes:
                _tap(module, f"{TAP}{number}", nodes[value])
        module.recompile()
        return module

    @cached_property
    def _listened(self) -> Mapping[str, Any]:
        names = enumerate(self.taps)
        return {
            name: getattr(self.module, f"{TAP}{number}")
            for number, name in names
            if hasattr(self.module, f"{TAP}{number}")
        }

    def run(self, feed: Feed, sites: Sequence[str]) -> Observed:
        """See torch.runs.Runner."""
        return self._run({}, feed, sites)

    def run_nudged(self, feed: Feed, sites: Sequence[str], seed: int) -> Observed:
        """See torch.runs.Runner."""
        return self._run(nudged(named(self.module, self.nudged), seed), feed, sites)

    def _run(self, off: Mapping[str, Any], feed: Feed, sites: Sequence[str]) -> Observed:
        call: Any = importlib.import_module("torch.func").functional_call
        observed = Observed()
        taps = {name: tap for name, tap in self._listened.items() if name in sites}
        with sandbox.quiet(), as_it_was(self.module), listening(taps, observed):
            observed.outputs = outputs(
                lambda *args, **kwargs: call(self.module, off, args, kwargs), feed
            )
        return observed


def _tap(module: Any, name: str, node: Any) -> None:
    """Hand a value through a module, which can be listened to."""
    module.add_submodule(name, importlib.import_module("torch.nn").Identity())
    with module.graph.inserting_after(node):
        module.graph.call_module(name, (node,))
