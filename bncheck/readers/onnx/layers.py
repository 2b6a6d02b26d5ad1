"""The normalization layers of an ONNX graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count

from bncheck.facts import Unknown, unknown
from bncheck.graph import Graph, Node
from bncheck.model import BATCH_KINDS, Kind, NormLayer
from bncheck.readers.onnx.operation import Operation
from bncheck.tensor import Tensor

NAMING_ROLES = ("running_mean", "running_var", "weight", "bias")
FIRST_WITH_A_SCALE_PER_CHANNEL = 21  # GroupNormalization
_NOT_HELD = unknown(
    (
        NormLayer.track_running_stats,
        NormLayer.requires_grad,
        NormLayer.num_batches_tracked,
        NormLayer.foreign_names,
    ),
    "an ONNX graph holds none",
    "check the checkpoint it was exported from",
)


@dataclass(frozen=True, slots=True)
class Normalization:
    """A node that normalizes, the operation it was, and the roles of its operands."""

    kind: Kind
    node: Node
    operation: Operation
    roles: Mapping[int, str]

    def value(self, role: str) -> str:
        """The name of the value in a role, "" where there is none."""
        positions = (position for position, each in self.roles.items() if each == role)
        return next(map(self.operation.operand, positions), "")


def layers(
    found: Sequence[Normalization], graph: Graph, originals: Mapping[str, str]
) -> tuple[NormLayer, ...]:
    """A layer for each normalization, in order, under names that are unique.

    Nodes that read the same stored parameters are calls of one layer. What normalizes parameters
    alone (weight standardization) is no layer.
    """
    by_layer: dict[Hashable, list[Normalization]] = {}
    for each in found:
        if not graph.inputs or graph.depends_on_input(each.node.inputs[0]):
            by_layer.setdefault(_identity(each), []).append(each)
    firsts = [calls[0] for calls in by_layer.values()]
    names = _unique((_name(each, originals), each.node.name) for each in firsts)
    return tuple(
        NormLayer(
            name=name,
            kind=calls[0].kind,
            class_path=f"{calls[0].operation.domain or 'ai.onnx'}.{calls[0].operation.op}",
            facts=_facts(calls[0], graph) | {"calls": tuple(each.node for each in calls)},
        )
        for name, calls in zip(names, by_layer.values(), strict=True)
    )


def _identity(each: Normalization) -> Hashable:
    """What two calls of one layer share: kind, arguments and all operands but the data."""
    held = each.node.parameters
    if "running_mean" not in held or not all(isinstance(p, Tensor) for p in held.values()):
        return id(each)
    operands = tuple(map(each.value, NAMING_ROLES))
    return each.kind, operands, tuple(map(each.node.attributes.get, ("eps", "training")))


def _name(each: Normalization, originals: Mapping[str, str]) -> str:
    """The module that the parameters are named after, else the node, else what it makes.

    The names that the node itself reads count: exporters make equal initializers one, under the
    name of another layer, and lead back to it through Identity.
    """
    for role in NAMING_ROLES:
        value = each.value(role)
        module, _, parameter = originals.get(value, value).rpartition(".")
        if module and parameter == role:
            return module
    return each.node.name or next(filter(None, each.node.outputs), each.node.op)


def _unique(names: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The first name of each pair; where it is taken the second, else the first with a number."""
    taken: set[str] = set()
    numbers: defaultdict[str, count[int]] = defaultdict(lambda: count(2))
    for name, other in names:
        numbered = (f"{name}#{number}" for number in numbers[name])
        unique = next(each for each in chain((name, other), numbered) if each and each not in taken)
        taken.add(unique)
        yield unique


def _facts(each: Normalization, graph: Graph) -> dict[str, object]:
    arguments = each.node.attributes
    facts: dict[str, object] = {
        **_NOT_HELD,
        **{role: each.node.parameters.get(role) for role in ("weight", "bias")},
        "affine": "weight" in each.node.parameters,
        "num_features": _num_features(each),
    }
    facts |= {name: arguments[name] for name in ("eps", "num_groups") if name in arguments}
    if each.kind in BATCH_KINDS:
        facts |= {name: arguments[name] for name in ("momentum", "training")}
        facts |= _statistics(each, graph)
    elif each.kind == "instance":
        facts["has_running_stats"] = False  # the operator has none
    return facts


def _statistics(each: Normalization, graph: Graph) -> dict[str, object]:
    """Statistics that depend on what flows in are those of the batch: the layer keeps none."""
    facts: dict[str, object] = {"has_running_stats": True}
    for role in ("running_mean", "running_var"):
        facts[role] = each.node.parameters.get(role)
        if not each.value(role) or graph.depends_on_input(each.value(role)):
            facts[role] = Unknown(role, "computed from the data of each batch")
            facts["has_running_stats"] = False
    return facts


def _num_features(each: Normalization) -> int | Unknown:
    old = each.operation.op == "GroupNormalization"
    if old and each.operation.version < FIRST_WITH_A_SCALE_PER_CHANNEL:
        return Unknown("num_features", "before opset 21 scale and bias are given per group")
    for value in each.node.parameters.values():
        if isinstance(value, Tensor):
            return value.numel
    return Unknown("num_features", "no parameter is stored")
