"""The normalization layers of an archive: its modules, and what its code does with them.

What a traced module was like is written in its calls alone: ``training``, which it still has and
``eval()`` changes, decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

from bncheck.facts import Unknown
from bncheck.graph import Graph
from bncheck.model import NormLayer
from bncheck.readers.aten import layers as aten_layers
from bncheck.readers.aten.layers import Normalization
from bncheck.readers.torchscript.graph import Normalizing
from bncheck.readers.torchscript.objects import ScriptObject
from bncheck.tensor import Tensor

NOT_FOLLOWED = Unknown("mode", "a traced module has it in its code alone, which is not followed")
COMPUTED_MODE = Unknown("mode", "it is computed in the code")
NEVER_CALLED = Unknown("mode", "forward never calls this layer")
OWN_MODE = Unknown("mode", "its class normalizes by operators of its own")
OWN_OPERATORS = replace(OWN_MODE, what="order")
FROM_CALLS = ("eps", "momentum", "training", "num_groups")

Modules = Mapping[str, ScriptObject]


def without_calls(layers: Sequence[NormLayer], modules: Modules) -> tuple[NormLayer, ...]:
    """The layers of a module tree whose code is not followed."""
    return tuple(_in_unknown_mode(la, modules[la.name], NOT_FOLLOWED) for la in layers)


def with_calls(
    layers: Sequence[NormLayer], modules: Modules, found: Sequence[Normalizing], graph: Graph
) -> tuple[NormLayer, ...]:
    """The layers of a module tree with what calls tell, then those that are functions only."""
    calls = _Calls(found)
    followed = {node.name for node in graph.nodes}
    complete: list[NormLayer] = []
    for layer in layers:
        module, own = modules[layer.name], calls.of(layer, modules[layer.name])
        if own:
            complete.append(_called(layer, module, own, graph))
        elif layer.name in followed:
            complete.append(_uncalled(layer, module, OWN_MODE, OWN_OPERATORS))
        else:
            complete.append(_uncalled(layer, module, NEVER_CALLED, ()))
    names = {layer.name for layer in layers}
    return (*complete, *_functional(calls.not_taken, modules, graph, names))


class _Calls:
    """Normalizing calls, until a layer takes them."""

    def __init__(self, found: Sequence[Normalizing]) -> None:
        self._found = found
        self._taken: set[int] = set()
        self._by_owner: dict[int, list[Normalizing]] = defaultdict(list)
        self._by_tensor: dict[Hashable, list[Normalizing]] = defaultdict(list)
        for each in found:
            self._by_owner[each.owner.identity if each.owner else 0].append(each)
            for role in aten_layers.ROLES:
                self._by_tensor[_storage(each.node.parameters.get(role))].append(each)

    def of(self, layer: NormLayer, module: ScriptObject) -> list[Normalizing]:
        """The calls in a layer's own methods, or else those that read its tensors.

        A module that is registered twice is saved twice, and one of them is called; in a frozen
        archive the root calls all that is left.
        """
        found = [each for each in self._by_owner[module.identity] if _fits(each, layer)]
        held = (layer.facts.get(role) for role in aten_layers.ROLES)
        for tensor in filter(None, map(_storage, held)):
            found = found or [each for each in self._by_tensor[tensor] if _fits(each, layer)]
        self._taken.update(map(id, found))
        return found

    @property
    def not_taken(self) -> list[Normalizing]:
        """The calls that are no layer's."""
        return [each for each in self._found if id(each) not in self._taken]


def _storage(held: object) -> Hashable:
    return held.storage if isinstance(held, Tensor) else None


def _fits(each: Normalizing, layer: NormLayer) -> bool:
    """Whether a call is what a layer of its kind would call."""
    return layer.kind in (each.kind, None) or (each.kind == "batch" and layer.is_batch_norm)


def _in_unknown_mode(layer: NormLayer, module: ScriptObject, why: Unknown) -> NormLayer:
    if module.reads_mode or not layer.is_batch_norm:
        return layer
    return replace(layer, facts={**layer.facts, "training": why})


def _uncalled(layer: NormLayer, module: ScriptObject, why: Unknown, calls: object) -> NormLayer:
    unknown = _in_unknown_mode(layer, module, why)
    return replace(unknown, facts={**unknown.facts, "calls": calls})


def _called(
    layer: NormLayer, module: ScriptObject, calls: Sequence[Normalizing], graph: Graph
) -> NormLayer:
    layer, told = _in_unknown_mode(layer, module, COMPUTED_MODE), _told(layer, calls, graph)
    counts = {name for name, value in layer.facts.items() if not isinstance(value, Unknown)}
    told = {name: value for name, value in told.items() if name not in counts}
    return replace(layer, facts={**layer.facts, **told, "calls": tuple(c.node for c in calls)})


def _told(layer: NormLayer, calls: Sequence[Normalizing], graph: Graph) -> dict[str, object]:
    """What the literals of a layer's calls say; in training mode is what is so in any of them."""
    path = layer.class_path or ""
    found = aten_layers.layers([_normalization(c, layer.name, path) for c in calls], graph, {})
    told = {name: each.facts[name] for each in found for name in FROM_CALLS if name in each.facts}
    if any(each.facts.get("training") is True for each in found):
        told["training"] = True
    return told


def _functional(
    found: Sequence[Normalizing], modules: Modules, graph: Graph, taken: set[str]
) -> Iterator[NormLayer]:
    """Calls that are no module's, under the name of the module that makes them."""
    norms: list[Normalization] = []
    for each in found:
        path = each.owner.path if each.owner else ""
        module = modules.get(path)
        name = path or next(iter(each.node.outputs), each.node.op)
        norms.append(_normalization(each, name, module.class_path if module else each.node.op))
    for layer in aten_layers.layers(norms, graph, {}):
        name, copies = layer.name, 1
        while name in taken:
            copies += 1
            name = f"{layer.name}#{copies}"
        taken.add(name)
        yield replace(layer, name=name)


def _normalization(each: Normalizing, name: str, class_path: str) -> Normalization:
    values = {role: each.call.value(role) for role in aten_layers.ROLES}
    return Normalization(each.kind, each.node, name, class_path, values)
