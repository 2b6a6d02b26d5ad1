"""What values are called once nodes are gone, and which nodes have to say so.

A node that goes leaves two names for one value. One of them stays: that of a graph input or output
if there is any, else the one that most nodes read. Where that cannot be said in the file, because
names mean something else in a function or are used twice in bodies, an Identity stays instead.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bncheck.folding.onnx.file import OnnxFile
from bncheck.folding.plan import FoldPlan
from bncheck.graph import Node
from bncheck.readers.onnx.proto import NodeProto


@dataclass(frozen=True, slots=True)
class Naming:
    """``renamed``: new names of values. ``gone``: nodes to drop. ``bridged``: nodes that become an
    Identity of one of their inputs, by position.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    gone: frozenset[int] = frozenset()
    bridged: Mapping[int, int] = field(default_factory=dict)


def naming(file: OnnxFile, plan: FoldPlan) -> Naming:
    """Names after a plan; nodes are told by ``id`` of their message."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for value in plan.aliases:
        groups[plan.now(value)].append(value)
    uses = _Uses(file, plan)
    renamed: dict[str, str] = {}
    gone: set[int] = set()
    bridged: dict[int, int] = {}
    for root, members in groups.items():
        nodes = [node for value in members if (node := file.graph.producer(value))]
        protos = [file.origins[node].proto for node in nodes]
        name = uses.name_for(root, members, nodes)
        if name is None:
            bridged |= {id(p): _position(p, n, plan) for p, n in zip(protos, nodes, strict=True)}
        else:
            gone |= {id(proto) for proto in protos}
            renamed |= {value: name for value in (root, *members) if value != name}
    return Naming(renamed, frozenset(gone), bridged)


def _position(proto: NodeProto, node: Node, plan: FoldPlan) -> int:
    """Which input of a node stands for what it made."""
    kept = plan.now(node.outputs[0])
    data = next(value for value in node.inputs if plan.now(value) == kept)
    position = node.inputs.index(data)
    return position if len(node.inputs) > 1 else _only_data(proto, node)


def _only_data(proto: NodeProto, node: Node) -> int:
    return proto.inputs.index(node.inputs[0]) if node.inputs[0] in proto.inputs else 0


class _Uses:
    """Who makes and reads which name, in the whole file."""

    def __init__(self, file: OnnxFile, plan: FoldPlan) -> None:
        self._file = file
        self._graphs = [file.main, *file.bodies.values()]
        nodes = [node for graph in self._graphs for node in graph.nodes]
        removed = {id(file.origins[n].proto) for v in plan.aliases if (n := file.graph.producer(v))}
        self._made = Counter(name for node in nodes for name in node.outputs)
        self._made.update(name for graph in self._graphs for name in graph.inputs)
        self._read = Counter(
            name for node in nodes if id(node) not in removed for name in node.inputs
        )
        self._fixed = {name for graph in self._graphs for name in (*graph.inputs, *graph.outputs)}

    def name_for(self, root: str, members: Iterable[str], nodes: Iterable[Node]) -> str | None:
        """The one name of a group of values; None where there can be none."""
        names = [root, *members]
        maker = self._file.graph.producer(root)
        involved = [*nodes, *([maker] if maker else [])]
        if not all(map(self._is_plain, involved)) or any(self._made[name] != 1 for name in names):
            return None
        fixed = [name for name in names if name in self._fixed]
        if maker is None and root not in fixed:
            fixed.append(root)
        if len(fixed) > 1:
            return None
        return fixed[0] if fixed else max(names, key=lambda name: self._read[name])

    def _is_plain(self, node: Node) -> bool:
        origin = self._file.origins.get(node)
        if origin is None or not origin.keeps_its_names:
            return False
        return self._file.function_of(origin.proto) is None
