"""An ONNX file opened for folding: its graph, and where in the file each node comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from bncheck.folding.plan import in_the_file
from bncheck.folding.reasons import Reason
from bncheck.graph import Graph, Node
from bncheck.model import Model
from bncheck.readers.onnx import to_model
from bncheck.readers.onnx.nodes import Signature
from bncheck.readers.onnx.operation import Operation
from bncheck.readers.onnx.proto import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    read_graph,
    read_model,
)
from bncheck.readers.onnx.protobuf import PAYLOAD, Span, Walker
from bncheck.readers.onnx.tensor import TensorProto
from bncheck.readers.source import Source


@dataclass(frozen=True, slots=True)
class Origin:
    """The node of the file that a node of the graph was made of, and the roles of its operands.

    ``transposed``: the weight is the transpose of the operand, which is made of it in the graph.
    """

    proto: NodeProto
    positions: Mapping[str, int]
    flat_inputs: tuple[str, ...]
    flat_outputs: tuple[str, ...]
    transposed: bool = False

    @property
    def keeps_its_names(self) -> bool:
        """Whether values are called in the graph what they are called where the node stands."""
        inputs, outputs = tuple(self.proto.inputs), tuple(self.proto.outputs)
        return inputs == self.flat_inputs and outputs == self.flat_outputs


@dataclass(eq=False)
class OnnxFile:
    """A file, its messages, the facts of its one model, and the origins of the graph's nodes."""

    source: Source
    proto: ModelProto
    walker: Walker
    graph_span: Span
    model: Model = field(init=False)
    origins: dict[Node, Origin] = field(default_factory=dict)
    bodies: dict[Span, GraphProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = to_model("onnx", self.source, self.proto, self._body, self._observe)

    @property
    def graph(self) -> Graph:
        """The flat graph."""
        return self.model.graph

    @property
    def main(self) -> GraphProto:
        """The outermost graph of the file."""
        return self.proto.graph

    def _body(self, span: Span) -> GraphProto:
        self.bodies[span] = read_graph(self.walker, span)
        return self.bodies[span]

    def _observe(self, node: Node, operation: Operation, how: Signature) -> None:
        if operation.proto is not None and operation.proto.span is not None:
            positions = {role: position for position, role in how.roles.items()}
            transposed = operation.op == "MatMul" and "weight" in how.held
            self.origins[node] = Origin(
                operation.proto,
                {"weight": 1} if transposed else positions,
                operation.inputs,
                operation.outputs,
                transposed,
            )

    @property
    def in_place(self) -> frozenset[str]:
        """No operator of ONNX writes into what it is given."""
        return frozenset()

    def objection(self, node: Node) -> Reason | None:
        """Why a node cannot change or go; None where it can."""
        return Reason.OPERATOR if node not in self.origins else in_the_file(self.graph, node)

    def all_nodes(self) -> Iterator[NodeProto]:
        """Every node of the file: of the graph, of bodies, of functions."""
        yield from self.main.nodes
        for body in self.bodies.values():
            yield from body.nodes
        for function in self.proto.functions:
            yield from function.nodes

    def function_of(self, proto: NodeProto) -> FunctionProto | None:
        """The local function that a node stands in."""
        return self._function_of.get(id(proto))

    @cached_property
    def _function_of(self) -> Mapping[int, FunctionProto]:
        return {id(node): each for each in self.proto.functions for node in each.nodes}

    def initializers(self) -> Iterator[TensorProto]:
        """Every initializer of the graph and of bodies."""
        yield from self.main.initializers
        for body in self.bodies.values():
            yield from body.initializers


def open_file(source: Source) -> OnnxFile:
    """Open a model for folding. Raises UnreadableModel as reading it does."""
    walker = Walker(source)
    proto = read_model(walker)
    spans = walker.fields((0, source.size), {7: PAYLOAD})
    graph = next(Span(start, end) for _, start, end in spans)  # read_model found exactly one
    return OnnxFile(source, proto, walker, graph)
