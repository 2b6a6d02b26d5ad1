"""Carries a plan out on a copy of an ExportedProgram."""

from __future__ import annotations

import copy
import importlib
import inspect
import operator
from dataclasses import replace
from functools import cached_property
from typing import Any

from bncheck.folding.numbers import NewTensor, Numbers
from bncheck.folding.plan import FoldPlan
from bncheck.folding.program.listing import Listing
from bncheck.folding.program.stored import Stored
from bncheck.folding.reasons import Blocked, Reason
from bncheck.folding.shapes import shapes
from bncheck.graph import Node
from bncheck.readers.aten.layers import COUNTER

STATISTIC = "running_var"


class Edit:
    """The folded program that a plan makes. Raises Blocked where a node cannot be changed."""

    def __init__(self, listing: Listing, plan: FoldPlan) -> None:
        self._listing = listing
        self._plan = plan
        self._numbers = Numbers(plan, shapes(listing.graph) if plan.sums else {})
        self._graph = copy.deepcopy(listing.exported.graph)
        self._copies = _paired(listing.exported.graph, self._graph)
        self._stored = Stored(listing.exported)
        self._renamed: dict[str, str] = {}
        self._made: dict[tuple[str, str, bytes], Any] = {}
        self._sums: set[Any] = set()
        self.nodes_saved = 0
        for node in listing.graph.nodes:
            if id(node) in plan.steps:
                self._give_parameters(node)
        self._take_out()
        for node in plan.sums:
            self._make_a_sum(node)
        self._erase()

    def program(self) -> Any:
        """The program."""
        old = self._listing.exported
        given = {
            "root": old.graph_module,
            "graph": self._graph,
            "graph_signature": self._signature(),
            "state_dict": self._stored.tensors,
            "range_constraints": dict(old.range_constraints),
            "module_call_graph": [self._entry(each) for each in old.module_call_graph],
            "example_inputs": old.example_inputs,
            "constants": self._stored.constants,
            "verifiers": getattr(old, "verifiers", None),
        }
        known = inspect.signature(type(old).__init__).parameters
        made = type(old)(**{name: value for name, value in given.items() if name in known})
        for name, body in old.graph_module.named_children():
            setattr(made.graph_module, name, copy.deepcopy(body))
        return made

    # Parameters

    def _give_parameters(self, node: Node) -> None:
        for new in self._numbers.tensors(node, False):
            argument = self._listing.argument(node, new.role)
            data = self._numbers.make(new)
            stored = argument and self._own(argument, new, data)
            if stored:
                self._stored.replace(stored, new.shape, data)
            else:
                self._set_argument(node, new.role, self._copied(new, data))

    def _own(self, argument: Any, new: NewTensor, data: bytes) -> str | None:
        """The name of the stored tensor to be changed; None where others read it as it is.

        Raises Blocked where it is shared, and the argument a view of it.
        """
        name = self._listing.stored_behind(argument)
        if name is None and argument.name in self._listing.program.stored:
            return argument.name if self._all_become(argument, new, data) else None
        if name is None:
            raise Blocked(Reason.SHARED, new.node)
        if tuple(self._stored.held(name).shape) != new.shape:
            raise Blocked(Reason.COMPUTED, new.node)
        return name

    def _all_become(self, argument: Any, new: NewTensor, data: bytes) -> bool:
        """Whether everything that reads a stored tensor is to read the same other one."""
        changed = [node for node in self._listing.graph.nodes if id(node) in self._plan.steps]
        alike = [n for n in changed if self._listing.argument(n, new.role) is argument]
        same = (self._numbers.make(replace(new, node=node)) == data for node in alike)
        return len(alike) == self._listing.readers[argument.name] and all(same)

    def _copied(self, new: NewTensor, data: bytes) -> Any:
        """A new stored tensor beside the weight of a node; one for all that are the same."""
        weight = self._root(self._listing.argument(new.node, "weight"), new.node)
        key = weight, new.role, data
        if key not in self._made:
            self._made[key] = self._placeholder(new, data, weight)
        return self._made[key]

    def _placeholder(self, new: NewTensor, data: bytes, weight: str) -> Any:
        target, held = self._stored.add(weight, new.role, new.shape, data)
        at = self._copies[self._listing.sources[weight]]
        with self._graph.inserting_before(at):
            made = self._graph.placeholder("p_" + target.replace(".", "_"))
        made.meta["val"] = at.meta["val"].fake_mode.from_tensor(held, static_shapes=True)
        self._stored.introduce(made.name, target, weight)
        return made

    def _root(self, argument: Any, node: Node) -> str:
        """The name of the stored tensor that an argument is, or views."""
        while argument is not None and argument.name not in self._listing.program.stored:
            sources = argument.all_input_nodes
            argument = sources[0] if len(sources) == 1 else None
        if argument is None:
            raise Blocked(Reason.COMPUTED, node)
        return str(argument.name)

    def _set_argument(self, node: Node, role: str, value: Any) -> None:
        origin = self._listing.origins[node]
        name = origin.places.get(role, role)
        names = [each.name for each in origin.source.target._schema.arguments]
        if name not in names:
            raise Blocked(Reason.NO_BIAS, node)
        source, position = self._copies[origin.source], names.index(name)
        if position < len(source.args):
            source.update_arg(position, value)
        elif position == len(source.args) and not source.kwargs:
            source.args = (*source.args, value)
        else:
            source.update_kwarg(name, value)

    # Nodes

    def _take_out(self) -> None:
        sources = self._listing.sources
        for value in self._plan.aliases:
            old = self._copies[sources[value]]
            new = self._copies[sources[self._plan.now(value)]]
            old.replace_all_uses_with(new)
            self._renamed[old.name] = new.name

    def _make_a_sum(self, node: Node) -> None:
        """A BatchNorm whose scale went elsewhere becomes x + c, under the name of what it made."""
        (into,) = (fold.into[0] for fold in self._plan.folds if fold.node is node)
        new = self._numbers.summand(node)
        weight = self._root(self._listing.argument(into, "weight"), into)
        summand = self._placeholder(new, self._numbers.make(new), weight)
        norm = self._copies[self._listing.origins[node].source]
        made = self._copies[self._listing.sources[node.outputs[0]]]
        made.target = importlib.import_module("torch").ops.aten.add.Tensor
        made.args, made.kwargs = (norm.args[0], summand), {}
        self.nodes_saved -= made is not norm
        self._sums.add(made)

    def _erase(self) -> None:
        """Erase what is folded, and the constants that nothing reads any more."""
        for node in reversed([*self._graph.nodes]):
            if node.users or node in self._sums or not (self._is_gone(node) or self._is_dead(node)):
                continue
            self._graph.erase_node(node)
            if node.op == "placeholder":
                self._forget(node.name)
            elif node.target is not operator.getitem:
                self.nodes_saved += 1

    def _is_gone(self, node: Any) -> bool:
        return node in self._gone or (
            node.target is operator.getitem and node.args[0] in self._gone
        )

    @cached_property
    def _gone(self) -> frozenset[Any]:
        """What computed the values that are gone."""
        gone = {fold.node for fold in self._plan.folds}
        gone |= {n for n in self._listing.graph.nodes if {*n.outputs} & {*self._plan.aliases}}
        return frozenset(self._copies[self._listing.origins[node].source] for node in gone)

    def _is_dead(self, node: Any) -> bool:
        """Whether a constant was read before."""
        if not self._listing.readers.get(node.name):
            return False
        if node.op == "placeholder":
            return node.name in self._listing.program.stored
        return node.op != "output" and not self._listing.graph.depends_on_input(node.name)

    def _forget(self, name: str) -> None:
        module, dot, role = self._stored.forget(name).rpartition(".")
        if role == STATISTIC:
            self._forget_counter(f"{module}{dot}{COUNTER}")

    def _forget_counter(self, target: str) -> None:
        """The batch counter of a BatchNorm that is gone, unless something reads it."""
        names = self._stored.placeholders(target)
        held = [node for node in self._graph.nodes if node.name in names]
        if not any(node.users for node in held):
            self._stored.tensors.pop(target, None)
            for node in held:
                self._stored.forget(node.name)
                self._graph.erase_node(node)

    # What surrounds the graph

    def _signature(self) -> Any:
        old = self._listing.exported.graph_signature
        placeholders = (n for n in self._graph.nodes if n.op == "placeholder")
        return type(old)(
            input_specs=self._stored.specs(placeholders),
            output_specs=[replace(o, arg=self._now(o.arg)) for o in old.output_specs],
        )

    def _now(self, argument: Any) -> Any:
        """An argument under the name of the node that stands for it."""
        name = getattr(argument, "name", None)
        while name in self._renamed:
            name = self._renamed[name]
        return replace(argument, name=name) if name else argument

    def _entry(self, entry: Any) -> Any:
        """Which nodes are the inputs and outputs of a module that is to stay a module."""
        if entry.signature is None:
            return entry
        inputs, outputs = map(self._all_now, (entry.signature.inputs, entry.signature.outputs))
        return replace(entry, signature=replace(entry.signature, inputs=inputs, outputs=outputs))

    def _all_now(self, arguments: list[Any]) -> list[Any]:
        return [self._now(each) for each in arguments]


def _paired(graph: Any, copied: Any) -> dict[Any, Any]:
    """The nodes of a graph with those of its copy, which get the same names."""
    pairs = dict(zip(graph.nodes, copied.nodes, strict=True))
    for node, twin in pairs.items():
        twin.name = node.name
    return pairs
