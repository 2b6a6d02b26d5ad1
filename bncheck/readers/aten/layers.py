"""The normalization layers of a graph of ATen operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bncheck.facts import Unknown, unknown
from bncheck.graph import Graph, Node
from bncheck.model import BATCH_KINDS, Kind, NormLayer
from bncheck.readers.torch.values import Parameter
from bncheck.tensor import Tensor

COUNTER = "num_batches_tracked"
SWITCHES = ("training", "momentum")
NAMING = ("running_mean", "running_var", "weight", "bias")
ROLES = ("weight", "bias", "running_mean", "running_var")
HAVE_CHANNELS = ("batch", "instance")
_NOT_HELD = unknown(
    (NormLayer.track_running_stats, NormLayer.foreign_names),
    "a graph holds none",
    "check the module it was made from",
)


@dataclass(frozen=True, slots=True)
class Normalization:
    """A node that normalizes; ``name`` is its module's, ``class_path`` that module's class.

    ``values`` are the names of the values in each role, also where they are computed.
    """

    kind: Kind
    node: Node
    name: str
    class_path: str
    values: Mapping[str, str]


def owner(stored: Mapping[str, str]) -> str:
    """The module that tensors belong to, given the qualified names of those in each role."""
    for role in NAMING:
        module, _, parameter = stored.get(role, "").rpartition(".")
        if module and parameter == role:
            return module
    return ""


def layers(
    found: Sequence[Normalization],
    graph: Graph,
    stored: Mapping[str, Parameter],
    taken: Iterable[str] = (),
) -> tuple[NormLayer, ...]:
    """The layers in order of their first call; ``stored`` are all tensors by qualified name.

    ``taken`` are names that layers found elsewhere have already.
    Calls of one module with the same tensors and arguments are calls of one layer. What normalizes
    parameters alone (weight standardization) is no layer.
    """
    groups: dict[tuple[object, ...], list[Normalization]] = {}
    for each in found:
        if graph.depends_on_input(each.node.inputs[0]):
            groups.setdefault(_identity(each), []).append(each)
    names = _numbered((calls[0].name for calls in groups.values()), taken)
    return tuple(
        NormLayer(name, kind_of(calls[0]), calls[0].class_path, _facts(calls, graph, stored))
        for name, calls in zip(names, groups.values(), strict=True)
    )


def _identity(each: Normalization) -> tuple[object, ...]:
    tensors = (_place(each.node.parameters.get(role)) for role in ROLES)
    arguments = (each.node.attributes.get(name) for name in ("training", "eps", "momentum"))
    return each.name, each.kind, *tensors, *arguments


def _place(held: Tensor | Unknown | None) -> Hashable:
    if isinstance(held, Tensor) and held.storage is not None:
        return held.storage, held.shape
    return id(held)


def _numbered(names: Iterable[str], others: Iterable[str]) -> Iterator[str]:
    """The names, told apart by a number where one comes again."""
    taken = set(others)
    copies: Counter[str] = Counter()
    for name in names:
        unique = name
        while unique in taken:
            copies[name] += 1
            unique = f"{name}#{copies[name] + 1}"
        taken.add(unique)
        yield unique


def kind_of(each: Normalization) -> Kind:
    """The kind of the operator, unless the class of its module says which variant it is."""
    name = each.class_path.rpartition(".")[2]
    if each.kind == "batch" and ".instancenorm." in each.class_path:
        return "instance"  # which torch decomposes to a batch norm over reshaped data
    if each.kind == "batch" and "Sync" in name:
        return "sync-batch"
    return "frozen-batch" if each.kind == "batch" and "Frozen" in name else each.kind


def _facts(
    calls: Sequence[Normalization], graph: Graph, stored: Mapping[str, Parameter]
) -> dict[str, object]:
    each = calls[0]
    parameters, arguments = each.node.parameters, each.node.attributes
    facts: dict[str, object] = {
        **_NOT_HELD,
        **{role: parameters.get(role) for role in ("weight", "bias")},
        "affine": "weight" in parameters,
        "requires_grad": _requires_grad(each, stored),
        "num_features": _num_features(each, graph),
        "calls": tuple(call.node for call in calls),
    }
    facts |= {name: arguments[name] for name in ("eps", "num_groups") if name in arguments}
    if each.kind in ("batch", "instance"):
        facts |= _statistics(each, graph)
        facts |= _mode(each.node) if kind_of(each) in BATCH_KINDS else {}
        facts[COUNTER] = _counter(each, stored)
    return facts


def _statistics(each: Normalization, graph: Graph) -> dict[str, object]:
    """Statistics that depend on what flows in are those of the batch: the layer keeps none."""
    facts: dict[str, object] = {"has_running_stats": True}
    for role in ("running_mean", "running_var"):
        facts[role] = each.node.parameters.get(role)
        if facts[role] is None or graph.depends_on_input(each.values.get(role, "")):
            facts["has_running_stats"] = False
    return facts


def _mode(node: Node) -> dict[str, object]:
    facts = {name: node.attributes[name] for name in SWITCHES if name in node.attributes}
    if facts.get("momentum") == 0 and facts.get("training") is False:
        # torch.nn passes 0 in place of a cumulative average that does not run.
        facts["momentum"] = Unknown("momentum", "in eval mode a momentum of None is written as 0")
    return facts


def _requires_grad(each: Normalization, stored: Mapping[str, Parameter]) -> object:
    held = [stored.get(f"{each.name}.{role}") for role in ("weight", "bias")]
    if all(parameter is None for parameter in held) and "weight" in each.node.parameters:
        return Unknown("requires_grad", "the tensors are stored under other names")
    return any(parameter.requires_grad for parameter in held if parameter)


def _counter(each: Normalization, stored: Mapping[str, Parameter]) -> Tensor | Unknown | None:
    counter = stored.get(f"{each.name}.{COUNTER}")
    return counter.tensor if counter else None


def _num_features(each: Normalization, graph: Graph) -> int | Unknown:
    for value in each.node.parameters.values():
        if isinstance(value, Tensor):
            return value.numel
    channels = graph.shapes.get(each.node.inputs[0], ())[1:2]
    if channels and channels[0] is not None and each.kind == kind_of(each) in HAVE_CHANNELS:
        return channels[0]
    return Unknown("num_features", "no parameter is stored")
