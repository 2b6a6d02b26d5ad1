"""Reads ONNX models of any opset, from the structure alone: weights are spans until touched."""

from __future__ import annotations

from bncheck.facts import Evidence
from bncheck.graph import Graph, Node
from bncheck.model import Model, NormLayer
from bncheck.readers import onnx_facts
from bncheck.readers.onnx_constants import Constants
from bncheck.readers.onnx_inline import Initializer, Inliner
from bncheck.readers.onnx_layers import Normalization, layers
from bncheck.readers.onnx_nodes import node, signature
from bncheck.readers.onnx_proto import ModelProto, read_model
from bncheck.readers.onnx_sniff import looks_like_onnx
from bncheck.readers.onnx_values import Storage
from bncheck.readers.protobuf import Walker
from bncheck.readers.source import Source
from bncheck.tensor import Tensor

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
            evidence=_evidence(found),
            holds=onnx_facts.holds(graph, found),
            statistics_gone=onnx_facts.statistics_gone(proto, found),
            facts={
                "graph": graph,
                "order": graph,
                "batch_size": onnx_facts.batch_size(graph, found),
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


def _evidence(found: tuple[NormLayer, ...]) -> frozenset[Evidence]:
    values = (value for layer in found for value in layer.facts.values())
    tensors = any(isinstance(value, Tensor) for value in values)
    return frozenset({Evidence.GRAPH, Evidence.TENSORS} if tensors else {Evidence.GRAPH})
