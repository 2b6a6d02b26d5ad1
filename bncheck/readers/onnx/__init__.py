"""Reads ONNX models of any opset, from the structure alone: weights are spans until touched."""

from __future__ import annotations

from bncheck.graph import Graph, Node
from bncheck.model import Model, NormLayer
from bncheck.readers import graph_model
from bncheck.readers.onnx.constants import Constants
from bncheck.readers.onnx.inline import Initializer, Inliner
from bncheck.readers.onnx.layers import Normalization, layers
from bncheck.readers.onnx.marks import rewriter_marks
from bncheck.readers.onnx.nodes import node, signature
from bncheck.readers.onnx.proto import ModelProto, read_model
from bncheck.readers.onnx.protobuf import Walker
from bncheck.readers.onnx.sniff import looks_like_onnx
from bncheck.readers.onnx.values import Storage
from bncheck.readers.source import Source

__all__ = ["looks_like_onnx", "read"]


def read(source: Source) -> tuple[Model, ...]:
    """The one model of an ONNX file. Raises UnreadableModel where it cannot be read in one way."""
    walker = Walker(source)
    proto = read_model(walker)
    graph, found = _flat(walker, proto)
    return (
        Model(
            format="onnx",
            content="graph",
            layers=found,
            evidence=graph_model.evidence(found),
            holds=graph_model.holds(graph, found),
            statistics_gone=graph_model.statistics_gone(found, rewriter_marks(proto)),
            facts={
                "graph": graph,
                "order": graph,
                "batch_size": graph_model.batch_size(graph, found),
            },
        ),
    )


def _flat(walker: Walker, proto: ModelProto) -> tuple[Graph, tuple[NormLayer, ...]]:
    inliner = Inliner(walker, proto)
    constants = Constants(Storage(walker.source))
    nodes: list[Node] = []
    norms: list[Normalization] = []
    for step in inliner.flat():
        if isinstance(step, Initializer):
            constants.add(step)
        elif not constants.absorb(step):
            how = signature(step, constants, inliner.shapes)
            nodes.append(node(step, how, constants))
            if how.norm is not None:
                norms.append(Normalization(how.norm, nodes[-1], step, how.roles))
    graph = Graph(tuple(nodes), inliner.inputs, inliner.outputs, inliner.shapes)
    return graph, layers(norms, graph, inliner.originals)
