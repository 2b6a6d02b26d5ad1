"""The normalization layers of an ONNX graph."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count

from bncheck.facts import Unknown, UnknownFact, unknown
from bncheck.graph import Graph, Node
from bncheck.model import BATCH_KINDS, Kind, NormLayer
from bncheck.readers.onnx.operation import Operation
from bncheck.readers.onnx.proto import NodeProto
from bncheck.tensor import Tensor

SCOPE = re.compile("'([^']*)'")
NAMING_ROLES = ("running_mean", "running_var", "weight", "bias")
MOST = 1 << 16  # values that are compared
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
    of_data = [
        each for each in found if not graph.inputs or graph.depends_on_input(each.node.inputs[0])
    ]
    alike = _alike(of_data)
    by_layer: dict[Hashable, list[Normalization]] = {}
    for each in of_data:
        by_layer.setdefault(_identity(each, alike), []).append(each)
    firsts = [calls[0] for calls in by_layer.values()]
    names = _unique(
        (_name(each, originals), _module(each.operation.proto), each.node.name) for each in firsts
    )
    return tuple(
        NormLayer(
            name=name,
            kind=calls[0].kind,
            class_path=f"{calls[0].operation.domain or 'ai.onnx'}.{calls[0].operation.op}",
            facts=_facts(calls[0], graph) | {"calls": tuple(each.node for each in calls)},
        )
        for name, calls in zip(names, by_layer.values(), strict=True)
    )


def _alike(found: Sequence[Normalization]) -> dict[str, str]:
    """For weights and biases beside one running_mean, the first that holds the same values.

    For a layer that has none, an exporter writes ones and zeros, anew for each call.
    """
    calls = Counter(filter(None, (each.value("running_mean") for each in found)))
    firsts: dict[tuple[float, ...], str] = {}
    names: dict[str, str] = {}
    for each in found:
        if calls[each.value("running_mean")] > 1:
            for role in ("weight", "bias"):
                name, tensor = each.value(role), each.node.parameters.get(role)
                if name not in names and isinstance(tensor, Tensor) and tensor.numel <= MOST:
                    with suppress(UnknownFact):
                        names[name] = firsts.setdefault(tuple(tensor.values), name)
    return names


def _identity(each: Normalization, alike: Mapping[str, str]) -> Hashable:
    """What two calls of one layer share: kind, arguments and all operands but the data."""
    held = each.node.parameters
    if "running_mean" not in held or not all(isinstance(p, Tensor) for p in held.values()):
        return id(each)
    operands = tuple(alike.get(name, name) for name in map(each.value, NAMING_ROLES))
    return each.kind, operands, tuple(map(each.node.attributes.get, ("eps", "training")))


def _name(each: Normalization, originals: Mapping[str, str]) -> str:
    """The module that the parameters are named after, or that the exporter says, else the node.

    The names that the node itself reads count: exporters make equal initializers one, under the
    name of another layer, and lead back to it through Identity.
    """
    for role in NAMING_ROLES:
        value = each.value(role)
        module, _, parameter = originals.get(value, value).rpartition(".")
        if module and parameter == role:
            return module
    named = _module(each.operation.proto) or each.node.name
    return named or next(filter(None, each.node.outputs), each.node.op)


def _module(proto: NodeProto | None) -> str:
    """The innermost of a node's scopes, "['', 'layer1', 'layer1.norm', 'group_norm']"."""
    quoted = SCOPE.findall(proto.scopes) if proto else []
    return quoted[-2] if len(quoted) > 1 else ""  # the last is the node's own name


def _unique(names: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """The first of each layer's names that is not taken yet, else its first with a number."""
    taken: set[str] = set()
    numbers: defaultdict[str, count[int]] = defaultdict(lambda: count(2))
    for each in names:
        numbered = (f"{each[0]}#{number}" for number in numbers[each[0]])
        unique = next(name for name in chain(each, numbered) if name and name not in taken)
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
