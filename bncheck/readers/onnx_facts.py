"""What an ONNX model says as a whole: its batch size, what it holds, what became of BatchNorm."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from bncheck.facts import Unknown
from bncheck.graph import Graph, NodeKind, Shape
from bncheck.model import BatchSize, NormLayer
from bncheck.readers.onnx_proto import ModelProto

LINEAR = frozenset({NodeKind.CONV, NodeKind.CONV_TRANSPOSE, NodeKind.LINEAR, NodeKind.MATMUL})
MOST_NAMED = 4


def batch_size(graph: Graph, layers: Iterable[NormLayer]) -> BatchSize | Unknown:
    """The batch that a training graph was exported with: the smallest that a BatchNorm sees."""
    inputs = [
        layer.calls[0].inputs[0] for layer in layers if layer.is_batch_norm and layer.training
    ]
    seen = [graph.shapes.get(value, ()) for value in inputs if graph.depends_on_input(value)]
    if not seen:
        why = "no batch size in an inference graph"
        return Unknown("batch size", why, "check the training checkpoint")
    samples = _samples(seen) or _samples(graph.shapes.get(value, ()) for value in graph.inputs[:1])
    if not samples or (len(graph.inputs) > 1 and not _samples(seen)):
        why = "the training graph leaves it open"
        return Unknown("batch size", why, "check the training checkpoint")
    source = "static batch of the training graph"
    return BatchSize(min(samples), source, min(_positions(seen), default=None))


def _samples(shapes: Iterable[Shape]) -> list[int]:
    return [size for shape in shapes for size in shape[:1] if size is not None]


def _positions(shapes: Iterable[Shape]) -> list[int]:
    """The known numbers of positions in space, H·W for an image."""
    spaces = [shape[2:] for shape in shapes if len(shape) > 1]
    return [math.prod(filter(None, space)) for space in spaces if None not in space]


def holds(graph: Graph, layers: Iterable[NormLayer]) -> str:
    """The linear and the normalizing operators by number; of other graphs, what is most of them."""
    counted = {id(node) for layer in layers for node in layer.calls}
    main = [n.op for n in graph.nodes if n.kind in LINEAR or id(n) in counted]
    counts = Counter(main or [node.op for node in graph.nodes])
    return ", ".join(f"{count} {op}" for op, count in counts.most_common(MOST_NAMED))


def statistics_gone(proto: ModelProto, layers: Iterable[NormLayer]) -> Unknown | None:
    """Why there is no BatchNorm; None where there is one. onnxscript's rewriter leaves marks."""
    if any(layer.is_batch_norm for layer in layers):
        return None
    nodes = [*proto.graph.nodes, *(node for each in proto.functions for node in each.nodes)]
    marks = [rule for node in nodes for rule in node.rewrites if rule.startswith("FuseBatchNorm")]
    why = "folded by the exporter, or never there"
    if marks:
        sites = "1 site" if len(marks) == 1 else f"{len(marks)} sites"
        why = f"the exporter folded it ({sites} marked {', '.join(sorted(set(marks)))})"
    instead = "check the model it was exported from"
    return Unknown("statistics", f"no BatchNorm in this graph: {why}", instead)
