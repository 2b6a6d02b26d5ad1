"""Traces live modules, so that what works on a graph works on them too.

Symbolic tracing (torch.fx) comes first, since it needs no inputs and runs nothing. Where it fails,
torch.export is tried, and at last the module is run once with hooks. All of it happens on a copy,
in silence, and a module that cannot be traced is a reason, never an error. torch is the caller's.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from bncheck.facts import Evidence, Unknown
from bncheck.graph import Graph, Node
from bncheck.model import Model, NormLayer
from bncheck.readers.exported.flatten import flatten
from bncheck.readers.exported.program import Body, Operation, Program
from bncheck.readers.live_module import LiveModule
from bncheck.readers.module_tree import ModuleRecord, tree
from bncheck.readers.nn_module import recognized
from bncheck.readers.torch.values import Parameter
from bncheck.readers.tracing import hooks, leaves, sandbox, symbolic, tracer
from bncheck.readers.tracing.exported_program import read_program
from bncheck.readers.tracing.origins import Origins, origins
from bncheck.readers.tracing.symbolic import Calls

Records = Mapping[str, ModuleRecord]

GIVE_INPUTS = "give inputs: bncheck.check(model, inputs=...)"


@dataclass(frozen=True, slots=True)
class Trace:
    """What tracing found: a graph, the calls of layers in it, and where values come from."""

    graph: Graph
    calls: Calls
    origins: Origins = field(default_factory=Origins)


def with_graph(model: Model, root: LiveModule, inputs: object | None) -> Model:
    """The model of a module, with the graph and the calls that tracing finds.

    ``inputs`` are the arguments of a call: a tensor, a tuple or list, or a mapping by name.
    """
    return with_trace(model, trace(root, inputs))


def trace(root: LiveModule, inputs: object | None, *, shapes: bool = True) -> Trace | Unknown:
    """The trace of a module, or why there is none; without ``shapes`` where they cost time."""
    with sandbox.quiet():
        return _trace(root.module, inputs, tree(root).places, shapes)


def with_trace(model: Model, found: Trace | Unknown) -> Model:
    """The model of a module, with what its trace shows."""
    if isinstance(found, Unknown):
        layers = tuple(_without_calls(layer, found) for layer in model.layers)
        return replace(model, layers=layers, facts={**model.facts, "graph": found})
    graph: Graph | Unknown = found.graph
    if not found.graph.complete:
        graph = Unknown("graph", "the module could only be run, not traced")
    return replace(
        model,
        evidence=model.evidence | {Evidence.GRAPH},
        layers=(
            *(_with_calls(each, found.calls) for each in model.layers),
            *found.calls.of_functions,
        ),
        facts={**model.facts, "graph": graph, "order": found.graph},
    )


def _trace(module: Any, inputs: object | None, records: Records, shapes: bool) -> Trace | Unknown:
    """What the first way finds that works; else why the first one did not."""
    if "forward" in vars(module):
        return Unknown("graph", "could not be traced: its forward is not that of its class")
    if type(module).forward.__name__ == "_forward_unimplemented":
        return Unknown("graph", "could not be traced: it has no forward")
    if tracer.is_one_call(module):
        return _alone(records[""])
    try:
        given = None if inputs is None else tracer.bind(module, inputs)
    except (TypeError, ValueError) as error:
        return Unknown("graph", f"could not be traced: the inputs do not fit ({_line(error)})")
    try:
        return _symbolic(module, given, records, shapes)
    except Exception as error:  # whatever the module's own code raises
        reason = f"could not be traced: {_line(error)}"
        found = None if given is None else _otherwise(module, given, records)
        return found or Unknown("graph", reason, "" if given else GIVE_INPUTS)


def _line(error: Exception) -> str:
    """The first sentence of an error, or its type where it says nothing."""
    line = next(iter(str(error).strip().splitlines()), "")
    return line.partition(". ")[0].rstrip(".:") or type(error).__name__


def _alone(record: ModuleRecord) -> Trace:
    """The trace of a module that is one call itself."""
    nodes = tuple(leaves.calls("", record, ("input",), ("output",)))
    calls = Calls({"": [nodes[-1]]}, (), {""}, {""})
    return Trace(Graph(nodes, ("input",), ("output",)), calls, Origins({"output": ""}))


def _symbolic(module: Any, given: tracer.Inputs | None, records: Records, shapes: bool) -> Trace:
    untouched = [*filter(tracer.is_leaf, module.modules())]  # no code of theirs is run
    copy = sandbox.traceable(module, shared=untouched)
    graph = tracer.trace(copy, given)
    if given is not None and shapes and not tracer.is_hooked(copy):
        with suppress(Exception):  # then the shapes stay unknown
            tracer.propagate_shapes(copy, graph, given)
    return Trace(*symbolic.convert(graph, copy, records), origins(graph, copy))


def _otherwise(module: Any, given: tracer.Inputs, records: Records) -> Trace | None:
    for way in () if tracer.is_hooked(module) else (_exported, _run):
        try:
            return way(module, given, records)
        except Exception:  # the reason that is told is that of symbolic tracing
            continue
    return None


def _exported(module: Any, given: tracer.Inputs, records: Records) -> Trace:
    export: Any = importlib.import_module("torch.export")
    copy = sandbox.to_be_run(module)
    leaves.call_batch_norm(copy)
    exported = export.export(copy, given.args, dict(given.kwargs), strict=False)
    program = _on_its_tensors(read_program(exported), records)
    graph, layers = flatten(program)
    entered = {scope.path for each in _operations(program.body) for scope in each.scopes}
    functional = tuple(each for each in layers if not _is_layer(records.get(each.name)))
    return Trace(
        graph,
        Calls({each.name: [*each.calls] for each in layers}, functional, entered),
        origins(exported.graph_module.graph, exported.graph_module, program.stored),
    )


def _on_its_tensors(program: Program, records: Records) -> Program:
    """The program of a copy, with the tensors of the module itself wherever it has them."""
    own = {name: _held(name, records) for name in program.tensors}
    return replace(program, tensors={n: own[n] or held for n, held in program.tensors.items()})


def _held(name: str, records: Records) -> Parameter | None:
    path, _, attribute = name.rpartition(".")
    return records[path].lookup(attribute) if path in records else None


def _operations(body: Body) -> Iterator[Operation]:
    for each in body.operations:
        yield each
        for inner in each.bodies:
            yield from _operations(inner)


def _is_layer(record: ModuleRecord | None) -> bool:
    return record is not None and recognized(record) is not None


def _run(module: Any, given: tracer.Inputs, records: Records) -> Trace:
    return Trace(*hooks.observe(sandbox.to_be_run(module), given, records))


def _without_calls(layer: NormLayer, why: Unknown) -> NormLayer:
    """A layer with that reason, unless an nn.Sequential tells where it is called."""
    if layer.knows(NormLayer.calls):
        return layer
    return replace(layer, facts={**layer.facts, "calls": replace(why, what="order")})


def _with_calls(layer: NormLayer, calls: Calls) -> NormLayer:
    return replace(layer, facts={**layer.facts, "calls": _calls(layer.name, calls)})


def _calls(name: str, calls: Calls) -> tuple[Node, ...] | Unknown:
    """Where a layer is called; empty where the forward of the model never comes by it."""
    if name in calls.of_norms:
        return tuple(calls.of_norms[name])
    inside = next((each for each in _within(name) if each in calls.leaves), None)
    if inside is not None:
        return Unknown("order", f"it runs inside {inside}, which was not looked into")
    if name in calls.entered:
        return Unknown("order", "its class computes it in several operations")
    return ()


def _within(name: str) -> Iterator[str]:
    """A qualified name and those of the modules around it."""
    while name:
        yield name
        name = name.rpartition(".")[0]
