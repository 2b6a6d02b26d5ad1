"""Carries a plan out on a copy of an ExportedProgram."""

from __future__ import annotations

import copy
import importlib
import inspect
import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bncheck.folding.onnx.numbers import NewTensor, Numbers
from bncheck.folding.plan import FoldPlan
from bncheck.folding.program.listing import Listing
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
        self._module = copy.deepcopy(listing.exported.graph_module)
        self._copies = _paired(listing.exported.graph_module.graph, self._module.graph)
        signature = listing.exported.graph_signature
        self._specs = {each.arg.name: each for each in signature.input_specs}
        self._tensors = dict(listing.exported.state_dict)
        self._constants = dict(listing.exported.constants)
        self._renamed: dict[str, str] = {}
        self.nodes_saved = 0
        for node in listing.graph.nodes:
            if id(node) in plan.steps:
                self._give_parameters(node)
        for node in plan.sums:
            self._make_a_sum(node)
        self._take_out()

    def program(self) -> Any:
        """The program."""
        old = self._listing.exported
        self._module.recompile()
        given = {
            "root": self._module,
            "graph": self._module.graph,
            "graph_signature": self._signature(),
            "state_dict": self._tensors,
            "range_constraints": dict(old.range_constraints),
            "module_call_graph": [self._entry(each) for each in old.module_call_graph],
            "example_inputs": old.example_inputs,
            "constants": self._constants,
            "verifiers": getattr(old, "verifiers", None),
        }
        known = inspect.signature(type(old).__init__).parameters
        return type(old)(**{name: value for name, value in given.items() if name in known})

    # Parameters

    def _give_parameters(self, node: Node) -> None:
        for new in self._numbers.tensors(node, False):
            argument = self._listing.argument(node, new.role)
            stored = argument and self._own(argument, new)
            if stored:
                self._store(stored, self._tensor(new, like=stored))
            else:
                self._set_argument(node, new.role, self._placeholder(new, beside=node))

    def _own(self, argument: Any, new: NewTensor) -> str | None:
        """The name of the stored tensor to be changed; None where others read it too.

        Raises Blocked where it is shared, and the argument a view of it.
        """
        name = self._listing.stored_behind(argument)
        if name is None and argument.name not in self._listing.program.stored:
            raise Blocked(Reason.SHARED, new.node)
        if name is not None and tuple(self._held(name).shape) != new.shape:
            raise Blocked(Reason.COMPUTED, new.node)
        return name

    def _held(self, name: str) -> Any:
        target = self._specs[name].target
        return self._tensors[target] if target in self._tensors else self._constants[target]

    def _store(self, name: str, new: Any) -> None:
        target = self._specs[name].target
        (self._tensors if target in self._tensors else self._constants)[target] = new

    def _tensor(self, new: NewTensor, like: str) -> Any:
        """The elements, as a parameter where what they are like is one."""
        torch: Any = importlib.import_module("torch")
        old = self._held(like)
        flat = torch.frombuffer(bytearray(self._numbers.make(new)), dtype=old.dtype)
        made = flat.reshape(new.shape).to(old.device)
        if not isinstance(old, torch.nn.Parameter):
            return made
        return torch.nn.Parameter(made, requires_grad=old.requires_grad)

    def _placeholder(self, new: NewTensor, beside: Node) -> Any:
        """A new stored tensor, placed beside the weight of a node."""
        weight = self._root(self._listing.argument(beside, "weight"), beside)
        spec = self._specs[weight]
        module = spec.target.rpartition(".")[0]
        target = _unused(f"{module}.{new.role}" if module else new.role, self._tensors)
        at = self._copies[self._listing.sources[weight]]
        with self._module.graph.inserting_before(at):
            made = self._module.graph.placeholder("p_" + target.replace(".", "_"))
        held = self._tensors[target] = self._tensor(new, like=weight)
        made.meta["val"] = at.meta["val"].fake_mode.from_tensor(held, static_shapes=True)
        self._specs[made.name] = _of_parameter(spec, made.name, target)
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

    def _make_a_sum(self, node: Node) -> None:
        """x + c in the place of a BatchNorm whose scale went elsewhere."""
        (into,) = (fold.into[0] for fold in self._plan.folds if fold.node is node)
        summand = self._placeholder(self._numbers.summand(node), beside=into)
        norm = self._copies[self._listing.origins[node].source]
        add: Any = importlib.import_module("torch").ops.aten.add.Tensor
        with self._module.graph.inserting_before(norm):
            made = self._module.graph.call_function(add, (norm.args[0], summand))
        old = self._copies[self._listing.sources[node.outputs[0]]]
        made.meta = dict(old.meta)
        self._read_instead(old, made)
        self.nodes_saved -= 1

    def _take_out(self) -> None:
        sources = self._listing.sources
        for value in self._plan.aliases:
            self._read_instead(
                self._copies[sources[value]], self._copies[sources[self._plan.now(value)]]
            )
        gone = {fold.node for fold in self._plan.folds}
        gone |= {n for n in self._listing.graph.nodes if {*n.outputs} & {*self._plan.aliases}}
        self._erase([self._copies[self._listing.origins[node].source] for node in gone])

    def _read_instead(self, old: Any, new: Any) -> None:
        old.replace_all_uses_with(new)
        self._renamed[old.name] = new.name

    def _erase(self, gone: list[Any]) -> None:
        """Erase nodes, and the constants that nothing else reads."""
        waiting = {*gone, *(user for node in gone for user in node.users)}
        for node in reversed([*self._module.graph.nodes]):
            if node not in waiting or node.users:
                continue
            waiting |= {each for each in node.all_input_nodes if self._is_constant(each)}
            self._module.graph.erase_node(node)
            if node.op == "placeholder":
                self._forget(node.name)
            elif node.target is not operator.getitem:
                self.nodes_saved += 1

    def _is_constant(self, node: Any) -> bool:
        if node.op == "placeholder":
            return node.name in self._listing.program.stored
        return not self._listing.graph.depends_on_input(node.name)

    def _forget(self, name: str) -> None:
        target = self._specs.pop(name).target
        if all(each.target != target for each in self._specs.values()):
            self._tensors.pop(target, None)
            self._constants.pop(target, None)
        module, _, role = target.rpartition(".")
        if role == STATISTIC:
            self._forget_counter(f"{module}.{COUNTER}" if module else COUNTER)

    def _forget_counter(self, target: str) -> None:
        for node in self._module.graph.nodes:
            spec = self._specs.get(node.name) if node.op == "placeholder" else None
            if spec is not None and spec.target == target and not node.users:
                self._module.graph.erase_node(node)
                self._forget(node.name)
                return

    # What surrounds the graph

    def _signature(self) -> Any:
        old = self._listing.exported.graph_signature
        placeholders = (n for n in self._module.graph.nodes if n.op == "placeholder")
        return type(old)(
            input_specs=[self._specs[node.name] for node in placeholders],
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


def _unused(name: str, taken: Mapping[str, object]) -> str:
    names = (name, *(f"{name}_{number}" for number in range(2, len(taken) + 3)))
    return next(each for each in names if each not in taken)


def _of_parameter(beside: Any, name: str, target: str) -> Any:
    """The entry of a signature for a parameter, made like another entry."""
    kind = type(beside.kind).PARAMETER
    return replace(
        beside, kind=kind, arg=replace(beside.arg, name=name), target=target, persistent=None
    )
