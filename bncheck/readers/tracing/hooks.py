"""The order in which modules are called, by running a module once: where nothing else can trace it.

Values are followed by their identity only, and anything may happen to them between two modules:
the graph says what is true, and that it is not complete.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bncheck.graph import Graph, Node
from bncheck.readers.module_tree import ModuleRecord
from bncheck.readers.nn_module import recognized
from bncheck.readers.tracing import leaves
from bncheck.readers.tracing.symbolic import Calls
from bncheck.readers.tracing.tracer import Inputs, is_leaf

MOST_CALLS = 100_000


def observe(module: Any, given: Inputs, records: Mapping[str, ModuleRecord]) -> tuple[Graph, Calls]:
    """The calls of the leaves of a module, which is run: give a copy of its own."""
    observer = _Observer(records)
    for name, each in module.named_modules():
        if is_leaf(each):
            observer.calls.leaves.add(name)
            each.register_forward_hook(observer.hook(name), with_kwargs=True)
    module(*given.args, **given.kwargs)
    return observer.graph(), observer.calls


class _Observer:
    def __init__(self, records: Mapping[str, ModuleRecord]) -> None:
        weak: Any = importlib.import_module("torch.utils.weak")
        self.calls = Calls()
        self._records = records
        self._nodes: list[Node] = []
        self._inputs: list[str] = []
        self._made: list[str] = []
        # Name and version of each tensor; weak, since a tensor that is gone may pass on its id.
        self._known: Any = weak.WeakIdKeyDictionary()

    def graph(self) -> Graph:
        """All calls so far; that anything may read any value counts as an output."""
        return Graph(tuple(self._nodes), tuple(self._inputs), tuple(self._made), complete=False)

    def hook(self, name: str) -> Callable[..., None]:
        """What notes the calls of one module."""

        def note(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            if len(self._nodes) < MOST_CALLS:
                self._note(name, [*_tensors(args), *_tensors(kwargs)], [*_tensors(output)])

        return note

    def _note(self, name: str, given: list[Any], made: list[Any]) -> None:
        number = len(self._nodes)
        inputs = tuple(self._name(tensor, f"{name}:in{number}") for tensor in given)
        outputs = tuple(f"{name}:out{number}:{i}" for i in range(len(made)))
        nodes = [*leaves.calls(name, self._records[name], inputs, outputs)]
        self._nodes += nodes
        self._made += outputs
        if recognized(self._records[name]) is not None:
            self.calls.of_norms.setdefault(name, []).append(nodes[-1])
        for tensor, value in zip(made, outputs, strict=True):
            self._known[tensor] = value, tensor._version

    def _name(self, tensor: Any, otherwise: str) -> str:
        """The value that a tensor is, unless it was changed since; else a new one."""
        name, version = self._known.get(tensor, ("", 0))
        if name and version == tensor._version:
            return str(name)
        self._inputs.append(otherwise)
        self._known[tensor] = otherwise, tensor._version
        return otherwise


def _tensors(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = [*value.values()]
    for each in value if isinstance(value, list | tuple) else (value,):
        if hasattr(each, "_version"):
            yield each
