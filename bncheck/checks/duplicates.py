"""BN212: BatchNorms of one model that hold the same statistics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple

from bncheck.checks.memory import once_per_model
from bncheck.checks.topology import FARTHEST, data
from bncheck.checks.words import is_onnx
from bncheck.facts import UnknownFact
from bncheck.finding import Level, Observation
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model, NormLayer
from bncheck.tensor import Tensor

OF_PARTS = frozenset({NodeKind.CONCAT, NodeKind.SPLIT})  # two of them may have channels in common
KEEPS_STATISTICS = frozenset({NodeKind.IDENTITY, NodeKind.RESHAPE})
OF_ONE_CHANNEL = KEEPS_STATISTICS | {
    NodeKind.ACTIVATION,
    NodeKind.AVERAGE_POOL,
    NodeKind.DROPOUT,
    NodeKind.MAX_POOL,
    NodeKind.PAD,
    NodeKind.RELU,
    NodeKind.RESIZE,
}


def duplicate_statistics(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN212: the statistics of an earlier layer, bit for bit, in a storage of their own."""
    if layer.running_mean is None or layer.running_var is None:
        return
    first = _originals(model).get(layer)
    if first is None:
        return
    inputs = _compared(layer, first, model)
    if inputs == SAME:
        return
    yield Observation(
        f"running_mean and running_var are those of {first.name}, bit for bit"
        + (
            ", though the two normalize different data: loaded under the wrong key?"
            if inputs == DIFFERENT
            else ": a copy of it (an averaged model, a shared input), or the wrong key."
        ),
        {"same_as": first.name, "inputs": inputs},
        Level.WARNING if inputs == DIFFERENT else None,
    )


SAME, COPIED, DIFFERENT, UNTOLD = "same", "copied", "different", "unknown"


class Statistics(NamedTuple):
    """The two tensors of a layer that has both."""

    mean: Tensor
    var: Tensor


@once_per_model
def _originals(model: Model) -> Mapping[NormLayer, NormLayer]:
    """For each layer whose statistics an earlier one has too, the first that has them.

    Extremes of the variance tell nearly all layers apart; only what agrees in them is compared.
    """
    alike: defaultdict[Hashable, list[NormLayer]] = defaultdict(list)
    for layer in model.batch_norms:
        held = _telling(layer)
        if held is not None:
            key = (held.var.numel, held.var.dtype, held.var.minimum, held.var.maximum)
            alike[key].append(layer)
    found: dict[NormLayer, NormLayer] = {}
    for layers in alike.values():
        if len(layers) > 1:
            found.update(_copies(layers, apart=is_onnx(model)))
    return found


def _telling(layer: NormLayer) -> Statistics | None:
    """Statistics that two layers do not share by chance: not initial, and not all the same."""
    mean, var = layer.get(NormLayer.running_mean, None), layer.get(NormLayer.running_var, None)
    if mean is None or var is None or mean.numel != var.numel:
        return None
    try:
        return Statistics(mean, var) if var.minimum < var.maximum and mean.finite else None
    except UnknownFact:  # the file does not give the values
        return None


def _copies(layers: list[NormLayer], apart: bool) -> Iterator[tuple[NormLayer, NormLayer]]:
    """``apart``: equal tensors may have been made one, so that a storage proves nothing."""
    firsts: dict[Hashable, NormLayer] = {}
    for layer in layers:
        held = _telling(layer)
        if held is not None:
            content = (held.mean.values.tobytes(), held.var.values.tobytes())
            first = firsts.setdefault(content, layer)
            if first is not layer and (apart or not _is_tied(layer, first)):
                yield layer, first


def _is_tied(layer: NormLayer, other: NormLayer) -> bool:
    storage = _storage(layer.running_var)
    return storage is not None and storage == _storage(other.running_var)


def _storage(tensor: Tensor | None) -> Hashable:
    return None if tensor is None else tensor.storage


def _compared(layer: NormLayer, first: NormLayer, model: Model) -> str:
    """Whether the two layers normalize the same data, as far as a complete graph shows it."""
    known = layer.knows(NormLayer.calls) and first.knows(NormLayer.calls)
    if not known or not model.knows(Model.graph) or not (layer.calls and first.calls):
        return UNTOLD
    sources = [{_source(model.graph, call) for call in each.calls} for each in (layer, first)]
    if sources[0] & sources[1]:
        return SAME
    if any(_is_of_parts(model.graph, value) for value in sources[0] | sources[1]):
        return UNTOLD
    copied = _have_same_affine(layer, first) and _are_fed_alike(model.graph, *map(min, sources))
    return COPIED if copied else DIFFERENT


def _source(graph: Graph, call: Node) -> str:
    """The value that a call normalizes, before what changes neither mean nor variance."""
    return _before(graph, data(call), KEEPS_STATISTICS)


def _before(graph: Graph, value: str, kinds: frozenset[NodeKind]) -> str:
    """What a value was before operators of some kinds."""
    for _ in range(FARTHEST):
        node = graph.producer(value)
        if node is None or node.kind not in kinds or not node.inputs:
            break
        value = node.inputs[0]
    return value


def _is_of_parts(graph: Graph, value: str) -> bool:
    node = graph.producer(_before(graph, value, OF_ONE_CHANNEL))
    return node is not None and node.kind in OF_PARTS


def _have_same_affine(layer: NormLayer, other: NormLayer) -> bool:
    pairs = (
        (one.get(NormLayer.weight, None), one.get(NormLayer.bias, None)) for one in (layer, other)
    )
    (weight, bias), (other_weight, other_bias) = pairs
    return _are_equal(weight, other_weight) and _are_equal(bias, other_bias)


def _are_fed_alike(graph: Graph, value: str, other: str) -> bool:
    """Whether equal operations make two values, as where a network is copied whole."""
    one, two = graph.producer(value), graph.producer(other)
    if one is None or two is None or one.kind is not two.kind:
        return False
    if one.parameters.keys() != two.parameters.keys():
        return False
    return all(_are_equal(one.parameters[role], two.parameters[role]) for role in one.parameters)


def _are_equal(one: object, two: object) -> bool:
    """Whether two parameters are absent both, or equal bit for bit."""
    if not isinstance(one, Tensor) or not isinstance(two, Tensor):
        return one is None and two is None
    if (one.shape, one.dtype) != (two.shape, two.dtype):
        return False
    return one is two or one.fresh().tobytes() == two.fresh().tobytes()
