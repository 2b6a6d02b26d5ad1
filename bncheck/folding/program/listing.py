"""An ExportedProgram as the planner sees it, and which part of it each node was made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bncheck.errors import UnreadableModel
from bncheck.folding.memory import overwritten
from bncheck.folding.reasons import Reason
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model
from bncheck.readers import exported
from bncheck.readers.exported.program import Operation, Program
from bncheck.readers.tracing.exported_program import outputs_of, read_program
from bncheck.readers.tracing.origins import Origins, origins

UNKNOWN_FORM = "is an ExportedProgram in a form that bncheck does not know: give the .pt2 instead"


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """A node of torch.fx, and which argument of it is which parameter."""

    source: Any
    places: Mapping[str, str]


@dataclass(eq=False)
class Listing:
    """The facts of a program. Raises UnreadableModel where its form is not known."""

    exported: Any
    program: Program = field(init=False)
    model: Model = field(init=False)
    origins: dict[Node, Origin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self.program = read_program(self.exported)
            self._top = {id(operation) for operation in self.program.body.operations}
            self.model = exported.model(self.program, self._observe)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UnreadableModel(UNKNOWN_FORM) from error

    def _observe(self, node: Node, operation: Operation, places: Mapping[str, str]) -> None:
        if id(operation) in self._top and operation.outputs[0] in self._makers:
            self.origins[node] = Origin(self._makers[operation.outputs[0]], places)

    @property
    def graph(self) -> Graph:
        """The flat graph, whose values have the names of the nodes that make them."""
        return self.model.graph

    @cached_property
    def sources(self) -> Mapping[str, Any]:
        """The nodes of torch.fx by name."""
        return {node.name: node for node in self.exported.graph.nodes}

    @cached_property
    def _makers(self) -> Mapping[str, Any]:
        """What computes each value; of several that one node gives, each is a part of it."""
        called = (node for node in self.exported.graph.nodes if node.op == "call_function")
        makers: dict[str, Any] = {}
        for node in called:
            for name in outputs_of(node):
                makers.setdefault(name, node)
        return makers

    @cached_property
    def _traced(self) -> Origins:
        graph_module = self.exported.graph_module
        return origins(graph_module.graph, graph_module, self.program.stored)

    @property
    def in_place(self) -> frozenset[str]:
        """What operators make that write into what they are given."""
        return self._traced.in_place

    @cached_property
    def _overwritten(self) -> frozenset[str]:
        return overwritten(self.graph, self.in_place)

    @cached_property
    def readers(self) -> Mapping[str, int]:
        """How often each node of torch.fx is read, by name."""
        return Counter(
            read.name for node in self.exported.graph.nodes for read in node.all_input_nodes
        )

    def objection(self, node: Node) -> Reason | None:
        """Why a node cannot change or go; None where it can."""
        if node not in self.origins:  # in a body of control flow
            return Reason.OPERATOR
        if not self._overwritten.isdisjoint((*node.inputs, *node.outputs)):
            return Reason.READ_ELSEWHERE
        others = node.outputs[1:] if node.kind is NodeKind.BATCH_NORM else ()
        return Reason.READ_ELSEWHERE if any(map(self.readers.get, others)) else None

    def argument(self, node: Node, role: str) -> Any | None:
        """What the program gives for a parameter of a node; None where it gives nothing."""
        origin = self.origins[node]
        return dict(_named(origin.source)).get(origin.places.get(role, role))

    def stored_behind(self, value: Any) -> str | None:
        """The stored tensor that an argument is, or views, where nothing else reads it."""
        while self.readers.get(value.name) == 1:
            if value.name in self.program.stored:
                return str(value.name)
            if len(value.all_input_nodes) != 1:
                return None
            (value,) = value.all_input_nodes
        return None


def _named(node: Any) -> Iterator[tuple[str, Any]]:
    names = [each.name for each in node.target._schema.arguments]
    yield from zip(names, node.args, strict=False)
    yield from node.kwargs.items()
