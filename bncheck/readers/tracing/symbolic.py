"""The graph of a module by symbolic tracing (torch.fx), which needs no inputs."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bncheck.graph import Graph, Node, Shape
from bncheck.model import Kind, NormLayer
from bncheck.readers import aten
from bncheck.readers.aten import Argument, Call, Constants, Value
from bncheck.readers.aten.call import values
from bncheck.readers.aten.layers import ROLES, Normalization, layers, owner
from bncheck.readers.conventions import settled
from bncheck.readers.inference import note_shapes
from bncheck.readers.live_module import LiveModule, parameter
from bncheck.readers.module_tree import ModuleRecord
from bncheck.readers.nn_module import recognized
from bncheck.readers.torch.values import Parameter
from bncheck.readers.tracing import functions, indexing, leaves
from bncheck.readers.tracing.fx_values import argument, is_node, shape_of
from bncheck.tensor import Tensor

# Functions and methods that give several tensors, whatever their arguments are.
SEVERAL = frozenset(
    {"chunk", "split", "split_with_sizes", "tensor_split", "unbind", "meshgrid", "topk", "sort"}
    | {"kthvalue", "mode", "std_mean", "var_mean", "cummax", "cummin", "aminmax"}
)
ALONG_AN_AXIS = frozenset({"max", "min", "median", "nanmedian"})  # values, and where they are


@dataclass(slots=True)
class Calls:
    """Where modules are called, by qualified name.

    ``of_functions`` are layers that are no module. ``entered`` are all modules that anything runs
    in, ``leaves`` those that were not looked into.
    """

    of_norms: dict[str, list[Node]] = field(default_factory=dict)
    of_functions: tuple[NormLayer, ...] = ()
    entered: set[str] = field(default_factory=set)
    leaves: set[str] = field(default_factory=set)


def convert(graph: Any, module: Any, records: Mapping[str, ModuleRecord]) -> tuple[Graph, Calls]:
    """A torch.fx.Graph of a module in bncheck's vocabulary.

    ``records`` are the modules by qualified name, whose tensors become the parameters of nodes.
    """
    converter = _Converter(module, records)
    for node in graph.nodes:
        converter.add(node)
    made = converter.graph()
    converter.calls.of_functions = converter.functional_layers(made)
    return made, converter.calls


class _Converter:
    def __init__(self, module: Any, records: Mapping[str, ModuleRecord]) -> None:
        self.calls = Calls()
        self._module = module
        self._records = records
        self._layers = {name for name, each in records.items() if recognized(each) is not None}
        self._nodes: list[Node] = []
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._shapes: dict[str, Shape] = {}
        self._constants = Constants({})
        self._qualified: dict[str, str] = {}
        self._stored: dict[str, Parameter] = {}
        self._functional: list[Normalization] = []
        self._lists: set[str] = set()  # values that are several, of which more than one is taken
        self._parts: dict[str, tuple[str, ...]] = {}
        self._current: dict[str, Argument] = {}  # what each name of the trace stands for by now

    def graph(self) -> Graph:
        """All that was added."""
        return Graph(tuple(self._nodes), tuple(self._inputs), tuple(self._outputs), self._shapes)

    def functional_layers(self, graph: Graph) -> tuple[NormLayer, ...]:
        """The normalizations that are calls of a function, on the tensors of no known layer."""
        return layers(self._functional, graph, self._stored, self._layers)

    def add(self, node: Any) -> None:
        """Take up the next node of the trace."""
        self._current[node.name] = Value(node.name)
        self._note_shape(node)
        if node.op == "placeholder":
            self._add_input(node)
        elif node.op == "get_attr":
            self._add_constant(node)
        elif node.op == "output":
            self._outputs += values(self._argument(node.args))
        elif self._is_fixed(node):
            self._current[node.name] = None
        elif node.op == "call_module":
            self._add_module(node)
        elif node.target is operator.getitem:
            self._add_item(node)
        else:
            self._add_call(node)

    def _note_shape(self, node: Any) -> None:
        shape = shape_of(node.meta.get("tensor_meta"))
        if shape is not None:
            self._shapes[node.name] = shape

    def _add_input(self, node: Any) -> None:
        """An input; one that the tracer took as it is has a number behind its name."""
        names = inspect.signature(type(self._module).forward).parameters
        if node.target.lstrip("*") in names:
            self._inputs.append(node.name)
        else:
            self._current[node.name] = argument(next(iter(node.args), None))

    def _add_constant(self, node: Any) -> None:
        path, _, name = node.target.rpartition(".")
        held = self._records[path].lookup(name) if path in self._records else None
        if held is None:  # a tensor that the forward made
            held = parameter(getattr(self._module.get_submodule(path), name, None))
        self._qualified[node.name] = node.target
        if held is not None and isinstance(held.tensor, Tensor):
            self._constants.add(node.name, held.tensor)
            self._stored[node.target] = held

    def _is_fixed(self, node: Any) -> bool:
        """Whether a node works on nothing but what the tracer took as it is."""
        held = [self._current[each.name] for each in node.all_input_nodes]
        return bool(held) and not any(isinstance(each, Value) for each in held)

    def _argument(self, given: Any) -> Argument:
        return self._substituted(argument(given))

    def _substituted(self, given: Argument) -> Argument:
        if isinstance(given, Value):
            return self._current[given.name]
        return [self._substituted(each) for each in given] if isinstance(given, list) else given

    def _add_module(self, node: Any) -> None:
        record = self._records.get(node.target) or LiveModule(
            self._module.get_submodule(node.target)
        )
        inputs = (*values(self._argument(node.args)), *values(self._argument(node.kwargs)))
        several = leaves.recipe_of(record) is None
        outputs = self._names(node, several)
        self._lists.update(outputs if several else ())  # whatever those are
        made = [*map(self._placed, leaves.calls(node.target, record, inputs, outputs))]
        self._nodes += made
        self.calls.leaves.add(node.target)
        self._note_scopes(node)
        if node.target in self._layers:
            self.calls.of_norms.setdefault(node.target, []).append(made[-1])
        if record.attributes.get("inplace") is True:
            self._replace(node)

    def _placed(self, node: Node) -> Node:
        """A node after those that are there already."""
        placed = settled(node, self._shapes)
        note_shapes(placed, self._shapes)
        return placed

    def _note_scopes(self, node: Any) -> None:
        self.calls.entered.update(
            path for path, _ in (node.meta.get("nn_module_stack") or {}).values()
        )

    def _replace(self, node: Any) -> None:
        """From here on, what a node changed in place is what it made of it."""
        for changed in filter(is_node, node.args[:1]):
            self._current[changed.name] = Value(node.name)

    def _add_call(self, node: Any) -> None:
        given = [self._argument(each) for each in node.args]
        named = {name: self._argument(each) for name, each in node.kwargs.items()}
        of = functions.of_method if node.op == "call_method" else functions.of_function
        call = of(node.target, given, named, node.name)
        name = node.target if node.op == "call_method" else node.target.__name__
        if functions.is_assertion(name):
            return
        self._note_scopes(node)
        if functions.is_in_place(name, named):
            self._replace(node)
        several = name in SEVERAL or named.get("return_indices") is True
        several |= name in ALONG_AN_AXIS and type(call.arguments.get("1", named.get("dim"))) is int
        self._emit(replace(call, outputs=self._names(node, several)))

    def _emit(self, call: Call) -> None:
        if self._constants.absorb(call):
            return
        name = owner(dict(self._names_of_stored(call)))
        node = aten.node(replace(call, name=name), self._constants, self._shapes)
        self._nodes.append(self._placed(replace(node, op=node.op.removeprefix("aten."))))
        kind = aten.norm_kind(call)
        if kind is not None:
            self._note_norm(kind, self._nodes[-1], call)

    def _note_norm(self, kind: Kind, node: Node, call: Call) -> None:
        if node.name in self._layers:
            self.calls.of_norms.setdefault(node.name, []).append(node)
        else:
            name = node.name or next(iter(node.outputs))
            values = {role: call.value(role) for role in ROLES}
            self._functional.append(Normalization(kind, node, name, node.op, values))

    def _names_of_stored(self, call: Call) -> Iterator[tuple[str, str]]:
        for role in call.arguments:
            origin = self._constants.origin(call.value(role))
            if origin in self._qualified:
                yield role, self._qualified[origin]

    def _names(self, node: Any, several: bool) -> tuple[str, ...]:
        """The names of what a node makes: where it makes several values, those that are taken."""
        positions = [user.args[1] for user in node.users if _takes_one(user, node)]
        if not several or not positions or len(positions) < len(node.users):
            self._lists |= {node.name} if several else set()
            return (node.name,)
        names = [f"{node.name}:{position}" for position in range(max(positions) + 1)]
        self._parts[node.name] = tuple(names)
        return tuple(names)

    def _add_item(self, node: Any) -> None:
        source, index = node.args
        parts = self._parts.get(getattr(source, "name", ""), ())
        if parts and type(index) is int:
            self._current[node.name] = Value(parts[index])
            return
        data, part = self._argument(source), self._argument(index)
        opaque = [Call("getitem", {"0": data, "1": part}, (node.name,))]
        for call in self._indexed(data, index, node.name) or opaque:
            self._emit(call)

    def _indexed(self, data: Argument, index: Any, output: str) -> list[Call] | None:
        """Indexing of a tensor as calls; None for that of a list, and for what is no plain one."""
        if isinstance(data, Value) and data.name in self._lists:
            return None
        shape = self._shapes.get(data.name) if isinstance(data, Value) else None
        return indexing.calls(data, index, output, None if shape is None else len(shape))


def _takes_one(user: Any, node: Any) -> bool:
    """Whether a node takes one of the values that another gives, by a position from the front."""
    taken = user.target is operator.getitem and user.args[0] is node
    return taken and type(user.args[1]) is int and user.args[1] >= 0
