"""What is done to a module: a plan that holds for whole modules, and its numbers."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bncheck.facts import UnknownFact
from bncheck.folding.arithmetic import Array, new_parameters, rounded
from bncheck.folding.memory import unsafe
from bncheck.folding.plan import FoldPlan, plan
from bncheck.folding.reasons import Blocked, Obstacle, Reason
from bncheck.folding.result import Kept, kept_layers, layer_names
from bncheck.folding.torch import leftovers
from bncheck.folding.torch.owners import Owners, Place, is_hooked
from bncheck.folding.torch.surgery import Surgery
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model, NormLayer
from bncheck.readers.tracing import Trace
from bncheck.tensor import Tensor

Numbers = Mapping[Node, Mapping[str, Array]]
Refused = dict[Node, Obstacle]


@dataclass(frozen=True, eq=False)
class Decided:
    """A plan for a module, and the new parameters of the nodes that it changes."""

    plan: FoldPlan
    numbers: Numbers
    graph: Graph
    owners: Owners
    _prepared: dict[int, Surgery] = field(default_factory=dict, repr=False)

    @property
    def sites(self) -> Sequence[str]:
        """Modules that make the same before and after, in every one of their calls."""
        return [*_sites(self)]

    @property
    def tensors(self) -> Sequence[str]:
        """The qualified names of the tensors that are folded, and of those that take them in."""
        nodes = [*self.numbers, *(fold.node for fold in self.plan.batch_norms)]
        held = (tensor for node in nodes for tensor in node.parameters.values())
        places = (self.owners.place(each) for each in held if isinstance(each, Tensor))
        return [*dict.fromkeys(str(place) for place in places if place)]

    @property
    def new_biases(self) -> Mapping[Node, Place]:
        """Where a node gets a bias that it has not."""
        bare = (n for n, arrays in self.numbers.items() if "bias" in arrays.keys() - n.parameters)
        return {node: self._place(node, "bias") for node in bare}

    def prepare(self, target: Any) -> Surgery:
        """The changes of a module that is, or is a copy of, the one that was traced."""
        if id(target) not in self._prepared:
            self._prepared[id(target)] = self._surgery(target)
        return self._prepared[id(target)]

    def _surgery(self, target: Any) -> Surgery:
        surgery = Surgery()
        for node, arrays in self.numbers.items():
            for role, array in arrays.items():
                _put(surgery, target, self._place(node, role), array, self._place(node, "weight"))
        places = _registered(target)
        for path in dict.fromkeys(self.owners.scope(f.node) for f in self.plan.batch_norms):
            old = target.get_submodule(path)
            new = leftovers.of(old)
            for held, name in places[id(old)]:
                surgery.set_entry(held, name, new)
        return surgery

    def _place(self, node: Node, role: str) -> Place:
        found = self.owners.place_of(node, role)
        assert found is not None
        return found


def _put(surgery: Surgery, target: Any, place: Place, array: Array, beside: Place) -> None:
    """Give a tensor new elements; a bias that was not there becomes a parameter."""
    torch: Any = importlib.import_module("torch")
    holder = place.holder(target)
    like = beside.holder(target)[beside.name]
    held = holder[place.name]
    data = rounded(array, str(like.dtype).removeprefix("torch."))
    new = torch.frombuffer(bytearray(data), dtype=like.dtype).reshape(array.shape)
    if held is not None:
        surgery.set_data(held, torch.empty_like(held.data).copy_(new))
    else:
        bias = torch.nn.Parameter(new.to(like.device), requires_grad=like.requires_grad)
        surgery.set_entry(holder, place.name, bias)


def _registered(target: Any) -> Mapping[int, list[tuple[dict[str, Any], str]]]:
    """All places at which modules are registered, by the ``id`` of a module."""
    places: dict[int, list[tuple[dict[str, Any], str]]] = {}
    for parent in target.modules():
        for name, child in parent._modules.items():
            places.setdefault(id(child), []).append((parent._modules, name))
    return places


def decide(trace: Trace, module: Any, unwanted: Mapping[Node, Obstacle]) -> Decided:
    """Plan, and give up what would leave a module half changed, until nothing is left to give up.

    ``unwanted`` stay. Raises UnknownFact where values of a tensor cannot be read.
    """
    graph = trace.graph
    owners = Owners(module, graph, trace.origins)
    keep: Refused = {**unwanted}
    while True:
        decided = plan(graph, owners.objection, keep=keep, rewires=False)
        numbers, refused = _numbers(decided, graph, owners)
        refused |= _disagreeing(decided, numbers, graph)
        refused |= _half_folded(decided, owners)
        refused |= _of_other_dtype(decided, owners)
        refused |= unsafe(decided, graph, trace.origins.in_place)
        if not refused.keys() - keep.keys():
            return Decided(decided, numbers, graph, owners)
        keep |= refused


def _numbers(decided: FoldPlan, graph: Graph, owners: Owners) -> tuple[Numbers, Refused]:
    numbers: dict[Node, Mapping[str, Array]] = {}
    refused: Refused = {}
    for node in graph.nodes:
        steps = decided.steps.get(id(node))
        if not steps:
            continue
        try:
            numbers[node] = _fitting(node, new_parameters(node, steps), owners)
        except Blocked as blocked:
            refused |= dict.fromkeys(decided.needing(node), blocked.obstacle)
    return numbers, refused


def _fitting(node: Node, arrays: Mapping[str, Array], owners: Owners) -> Mapping[str, Array]:
    """The arrays, where the module has a place for each and its dtype holds the numbers."""
    if "bias" in arrays and owners.place_of(node, "bias") is None:
        raise Blocked(Reason.NO_BIAS, node)
    for array in arrays.values():
        rounded(array, dtype_of(node.parameters["weight"]))
    return arrays


def dtype_of(held: object) -> str:
    """The dtype of a parameter that is stored."""
    return held.dtype if isinstance(held, Tensor) else ""


def _disagreeing(decided: FoldPlan, numbers: Numbers, graph: Graph) -> Refused:
    """What is folded into a tensor of several nodes, unless all of them take in the same."""
    holders: dict[Hashable, list[Node]] = {}
    for node in graph.nodes:
        for held in node.parameters.values():
            if isinstance(held, Tensor) and held.storage is not None:
                holders.setdefault(held.storage, []).append(node)
    refused: Refused = {}
    for nodes in holders.values():
        changed = [node for node in nodes if node in numbers]
        if changed and not _all_the_same([numbers.get(node) for node in nodes]):
            why = Obstacle(Reason.SHARED, changed[0])
            refused |= dict.fromkeys(decided.needing(*changed), why)
    return refused


def _all_the_same(given: Sequence[Mapping[str, Array] | None]) -> bool:
    first = given[0]
    return first is not None and all(
        other is not None
        and other.keys() == first.keys()
        and all((other[role] == array).all() for role, array in first.items())
        for other in given[1:]
    )


def _half_folded(decided: FoldPlan, owners: Owners) -> Refused:
    """BatchNorms of which another call stays: a module goes as a whole."""
    kept = {owners.scope(node) for node in decided.kept}
    gone = (fold.node for fold in decided.batch_norms)
    return {node: Obstacle(Reason.SEVERAL_CALLS) for node in gone if owners.scope(node) in kept}


def _of_other_dtype(decided: FoldPlan, owners: Owners) -> Refused:
    """What multiplies as code does gives the wider dtype of two; an Identity gives that before."""
    return {
        fold.node: Obstacle(Reason.PRECISION)
        for fold in decided.batch_norms
        if not leftovers.is_plain(owners.module_of(fold.node))
        for node in fold.into
        if dtype_of(node.parameters["weight"]) != dtype_of(fold.node.parameters["running_mean"])
    }


def _sites(decided: Decided) -> Iterator[str]:
    owners, plan = decided.owners, decided.plan
    calls = Counter(owners.scope(node) for node in decided.graph.nodes)
    made = Counter(
        owners.scope(node)
        for node in decided.graph.nodes
        if plan.sites.keys() & {*node.outputs} and _makes_it(node, owners)
    )
    yield from (path for path, number in made.items() if number == calls[path])


def _makes_it(node: Node, owners: Owners) -> bool:
    """Whether what a node makes is what its module does."""
    module = owners.module_of(node)
    return module is not None and leftovers.is_plain(module)


def kept(model: Model, decided: Decided) -> tuple[Kept, ...]:
    """All BatchNorms that stay, each once, also those that the graph does not show."""
    plan, modules = decided.plan, decided.owners.modules
    shown = {node: _hooked(why, modules) for node, why in plan.kept.items()}
    names = layer_names(model)
    seen = {names.get(n) for n in (*plan.kept, *(fold.node for fold in plan.batch_norms))}
    found: dict[str, Kept] = {}
    for each in kept_layers(model, shown):  # of several calls, the one that stays by itself
        if found.setdefault(each.layer, each).reason == Reason.SEVERAL_CALLS:
            found[each.layer] = each
    unseen = (_unseen(layer, modules) for layer in model.batch_norms if layer.name not in seen)
    return (*found.values(), *unseen)


def _hooked(why: Obstacle, modules: Mapping[str, Any]) -> Obstacle:
    """A module with hooks is no known operator; the hooks are what is to be told."""
    node = why.node
    if node is None or node.kind is not NodeKind.OPAQUE or node.name not in modules:
        return why
    return Obstacle(Reason.HOOKED, node) if is_hooked(modules[node.name]) else why


def _unseen(layer: NormLayer, modules: Mapping[str, Any]) -> Kept:
    """A layer that no node of the graph is a call of."""
    try:
        called = bool(layer.calls)
        why, text = (Reason.NO_ORDER, "") if called else (Reason.NOT_CALLED, "")
    except UnknownFact as unknown:
        why, text = Reason.NO_ORDER, unknown.unknown.why
    path = layer.name
    while path:
        if path in modules and is_hooked(modules[path]):
            why, text = Reason.HOOKED, ""
        path = path.rpartition(".")[0]
    return Kept(layer.name, why.value, text or why.text)
