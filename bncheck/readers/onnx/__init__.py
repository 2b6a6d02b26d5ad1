"""Reads ONNX models of any opset, from the structure alone: weights are spans until touched."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bncheck.graph import Graph, Node
from bncheck.model import Model, NormLayer
from bncheck.readers import graph_model
from bncheck.readers.inference import note_shapes
from bncheck.readers.onnx.constants import Constants
from bncheck.readers.onnx.fixed import fixed
from bncheck.readers.onnx.fused import signature, unfused
from bncheck.readers.onnx.inline import Initializer, Inliner
from bncheck.readers.onnx.layers import Normalization, layers
from bncheck.readers.onnx.marks import folding_marks
from bncheck.readers.onnx.nodes import Signature, node
from bncheck.readers.onnx.operation import Operation
from bncheck.readers.onnx.proto import GraphProto, ModelProto, read_graph, read_model
from bncheck.readers.onnx.protobuf import Span, Walker
from bncheck.readers.onnx.sequences import Sequences
from bncheck.readers.onnx.sniff import looks_like_onnx
from bncheck.readers.onnx.values import Storage
from bncheck.readers.source import Source

__all__ = ["Observer", "looks_like_onnx", "read", "to_model"]

Observer = Callable[[Node, Operation, Signature], None]


def _nobody(node: Node, operation: Operation, how: Signature) -> None:
    """Nobody wants to know what became of which operation."""


def read(source: Source) -> tuple[Model, ...]:
    """The one model of an ONNX file. Raises UnreadableModel where it cannot be read in one way."""
    walker = Walker(source)
    proto = read_model(walker)
    return (to_model("onnx", source, proto, partial(read_graph, walker)),)


def to_model(
    container: str,
    source: Source,
    proto: ModelProto,
    read_body: Callable[[Span], GraphProto],
    observe: Observer = _nobody,
) -> Model:
    """A model of what any container of an ONNX graph holds; ``read_body`` reads those of nodes.

    ``observe`` is told which operation each node was made of, and how it was read.
    """
    graph, found = _flat(proto, Inliner(proto, read_body), Constants(Storage(source)), observe)
    return Model(
        format=container,
        content="graph",
        layers=found,
        evidence=graph_model.evidence(found),
        holds=graph_model.holds(graph, found),
        statistics_gone=graph_model.statistics_gone(found, folding_marks(proto)),
        facts={
            "graph": graph,
            "order": graph,
            "batch_size": graph_model.batch_size(graph, found),
        },
    )


def _flat(
    proto: ModelProto, inliner: Inliner, constants: Constants, observe: Observer
) -> tuple[Graph, tuple[NormLayer, ...]]:
    nodes: list[Node] = []
    made: list[tuple[Node, Operation]] = []
    norms: list[Normalization] = []
    sequences = Sequences()
    for step in inliner.flat():
        if isinstance(step, Initializer):
            constants.add(step)
        elif not constants.absorb(step):
            for operation in unfused(step, inliner.new_name):
                sequences.note(operation, constants)
                how = signature(operation, constants, inliner.shapes)
                part = sequences.part(operation, constants, inliner.shapes)
                nodes.append(part or node(operation, how, constants, inliner.shapes))
                made.append((nodes[-1], operation))
                observe(nodes[-1], operation, how)
                note_shapes(nodes[-1], inliner.shapes)
                constants.follow(operation, inliner.shapes)
                if how.norm is not None:
                    norms.append(Normalization(how.norm, nodes[-1], operation, how.roles))
    kept = sequences.without_taken(nodes, inliner.outputs)
    still = fixed(made, proto)
    graph = Graph(kept, inliner.inputs, inliner.outputs, inliner.shapes, fixed=still)
    return graph, layers(norms, graph, inliner.originals)
