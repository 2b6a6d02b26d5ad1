"""What a graph says of a model as a whole: its batch size, what it holds, what of BatchNorm."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from bncheck.facts import Evidence, Unknown
from bncheck.graph import Graph, NodeKind, Shape
from bncheck.model import BatchSize, NormLayer
from bncheck.tensor import Tensor

LINEAR = frozenset({NodeKind.CONV, NodeKind.CONV_TRANSPOSE, NodeKind.LINEAR, NodeKind.MATMUL})
MOST_NAMED = 4
INSTEAD = "check the training checkpoint"


def batch_size(
    graph: Graph,
    layers: Iterable[NormLayer],
    source: str = "static batch of the training graph",
) -> BatchSize | Unknown:
    """The batch that a training graph was exported with: the smallest that a BatchNorm sees."""
    training = [layer for layer in layers if layer.is_batch_norm and _updates(layer)]
    calls = (call for layer in training for call in layer.get(NormLayer.calls, ()))
    inputs = [call.inputs[0] for call in calls]
    seen = [graph.shapes.get(value, ()) for value in inputs if graph.depends_on_input(value)]
    if not seen:
        return Unknown("batch size", "no batch size in an inference graph", INSTEAD)
    samples = _samples(seen) or _samples(graph.shapes.get(value, ()) for value in graph.inputs[:1])
    if not samples or (len(graph.inputs) > 1 and not _samples(seen)):
        return Unknown("batch size", "the training graph leaves it open", INSTEAD)
    return BatchSize(min(samples), source, min(_positions(seen), default=None))


def _updates(layer: NormLayer) -> bool:
    return layer.get(NormLayer.training, False) and layer.get(NormLayer.has_running_stats, True)


def _samples(shapes: Iterable[Shape]) -> list[int]:
    return [size for shape in shapes for size in shape[:1] if size is not None]


def _positions(shapes: Iterable[Shape]) -> list[int]:
    """The known numbers of positions in space, H·W for an image."""
    spaces = [shape[2:] for shape in shapes if len(shape) > 1]
    return [math.prod(filter(None, space)) for space in spaces if None not in space]


def holds(graph: Graph, layers: Iterable[NormLayer]) -> str:
    """The linear and the normalizing operators by number; of other graphs, what is most of them."""
    counted = {id(node) for layer in layers for node in layer.calls}
    main = [node.op for node in graph.nodes if node.kind in LINEAR or id(node) in counted]
    counts = Counter(main or [node.op for node in graph.nodes])
    return ", ".join(f"{count} {op}" for op, count in counts.most_common(MOST_NAMED))


def statistics_gone(layers: Iterable[NormLayer], folded: str | None = None) -> Unknown | None:
    """Why there is no BatchNorm, ``folded`` where that is known; None where there is one."""
    if any(layer.is_batch_norm for layer in layers):
        return None
    why = folded or "folded by the exporter, or never there"
    return Unknown(
        "statistics", f"no BatchNorm in this graph: {why}", "check the model it was exported from"
    )


def evidence(layers: Iterable[NormLayer]) -> frozenset[Evidence]:
    """A graph, and tensors where a layer has any."""
    values = (value for layer in layers for value in layer.facts.values())
    tensors = any(isinstance(value, Tensor) for value in values)
    return frozenset({Evidence.GRAPH, Evidence.TENSORS} if tensors else {Evidence.GRAPH})
