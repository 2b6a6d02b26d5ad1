"""Whether the code of a module does the same once BatchNorms are gone.

A forward may ask whether a layer is a BatchNorm, how many features it has, or whether a
convolution has a bias. Tracing does not show that, as no tensor is read. So the folded module is
traced too: all operations but those of the BatchNorms must be what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bncheck.facts import Unknown
from bncheck.folding.reasons import Obstacle, Reason
from bncheck.folding.torch.decisions import Decided, Refused
from bncheck.folding.torch.owners import Place
from bncheck.graph import Node
from bncheck.readers import live_module, tracing
from bncheck.readers.live_module import LiveModule
from bncheck.readers.sequential import TORCH_MODULES
from bncheck.readers.tracing import Trace
from bncheck.readers.tracing.fx_values import is_node
from bncheck.readers.tracing.origins import Origins
from bncheck.tensor import Tensor

DEEPEST = 16  # lists within lists
Key = tuple[type, str]
Plan = Callable[[Mapping[Node, Obstacle]], Decided]


@dataclass(frozen=True)
class Code:
    """What a module was traced to be, and how: for a comparison with what it becomes."""

    trace: Trace
    target: Any
    inputs: object | None

    def refused(self, decided: Decided, plan: Plan, keep: Mapping[Node, Obstacle]) -> Refused:
        """The folds after which the module's code does something else.

        ``plan`` makes others, without those in ``keep``.
        """
        if not decided.plan.batch_norms or self._is_same(decided):
            return {}
        found: Refused = {}
        groups = self._groups(decided)
        for key in groups if len(groups) > 1 else ():
            others = {node: why for k, held in groups.items() if k != key for node, why in held}
            if not self._is_same(plan({**keep, **others})):
                found |= groups[key]
        return found or {node: why for held in groups.values() for node, why in held}

    def _groups(self, decided: Decided) -> Mapping[Key, list[tuple[Node, Obstacle]]]:
        """The folds by the class whose code calls them, and their name there."""
        groups: dict[Key, list[tuple[Node, Obstacle]]] = {}
        why = Obstacle(Reason.CODE)
        for fold in decided.plan.batch_norms:
            key = _owner(self.target, decided.owners.scope(fold.node))
            groups.setdefault(key, []).append((fold.node, why))
        return groups

    def _is_same(self, decided: Decided) -> bool:
        gone = {decided.owners.scope(fold.node) for fold in decided.plan.batch_norms}
        if not gone:
            return True
        names = _all_names(self.target, gone)
        new = {*decided.new_biases.values()}
        surgery = decided.prepare(self.target)
        surgery.apply()
        try:
            after = tracing.trace(LiveModule(self.target), self.inputs, shapes=False)
            if isinstance(after, Unknown) or not after.graph.complete:
                return False
            if not all(_is_bias(place, self.target, after) for place in new):
                return False
        finally:
            surgery.undo()
        biases = frozenset(map(str, new))
        return _lines(self.trace.origins, names) == _lines(after.origins, names, biases)


def _is_bias(place: Place, root: Any, trace: Trace) -> bool:
    """Whether a tensor is the bias of all that have the weight beside it, and nothing else."""
    module = root.get_submodule(place.path)
    weight, bias = (live_module.tensor(each).storage for each in (module.weight, module.bias))
    held = [each.parameters for each in trace.graph.nodes]
    takers = [each for each in held if _storage(each.get("weight")) == weight]
    reads = trace.origins.readers.get(str(place), 0)
    return reads == len(takers) > 0 and all(_storage(each.get("bias")) == bias for each in takers)


def _storage(held: object) -> Hashable:
    return held.storage if isinstance(held, Tensor) else None


def _owner(root: Any, path: str) -> Key:
    """The innermost class around a module that is not PyTorch's, and the path from there."""
    parts = path.split(".")
    for at in range(len(parts) - 1, 0, -1):
        kind = type(root.get_submodule(".".join(parts[:at])))
        if not kind.__module__.startswith(TORCH_MODULES):
            return kind, ".".join(parts[at:])
    return type(root), path


def _all_names(root: Any, paths: Collection[str]) -> frozenset[str]:
    """All names under which some modules are registered."""
    wanted = {id(root.get_submodule(path)) for path in paths}
    named = root.named_modules(remove_duplicate=False)
    return frozenset(name for name, module in named if id(module) in wanted)


def _lines(
    origins: Origins, gone: frozenset[str], new: frozenset[str] = frozenset()
) -> list[object]:
    """The operations outside of some modules, each in a form that can be compared.

    ``new`` are tensors that stand where there was none.
    """
    return [*_Reader(origins, gone, new).lines()]


@dataclass
class _Reader:
    """A torch.fx.Graph, in which modules that are gone hand on what they are given."""

    origins: Origins
    gone: frozenset[str]
    new: frozenset[str]
    known: dict[Any, object] = field(default_factory=dict)
    number: int = 0

    def lines(self) -> Iterator[object]:
        inside: list[Any] = []
        for node in self.origins.source.nodes:
            if self._is_gone(node):
                inside.append(node)
                if not _fits_identity(node):
                    yield object()  # like nothing else
                continue
            self._hand_on(inside)
            inside = []
            if node.name in self.origins.stored:
                self.known[node] = None
            elif node.op == "get_attr":
                self.known[node] = None if node.target in self.new else f"stored {node.target}"
            else:
                self.number += 1
                self.known[node] = f"value {self.number}"
                yield node.op, _target(node), self._arguments(node)

    def _is_gone(self, node: Any) -> bool:
        path = self.origins.scopes.get(node.name, "")
        while path and path not in self.gone:
            path = path.rpartition(".")[0]
        return bool(path)

    def _hand_on(self, inside: list[Any]) -> None:
        """All that successive nodes of such modules make is what the first of them is given."""
        data = {self.known.get(each) for node in inside for each in node.all_input_nodes}
        given = sorted(str(each) for each in data - {None})
        self.known.update(dict.fromkeys(inside, given[0] if len(given) == 1 else f"of {given}"))

    def _arguments(self, node: Any) -> object:
        """Stored tensors and None are alike: a bias may be new."""
        positional = [self._plain(each, 0) for each in node.args]
        while positional and positional[-1] is None:
            positional.pop()
        named = {name: self._plain(each, 0) for name, each in node.kwargs.items()}
        return positional, {name: each for name, each in named.items() if each is not None}

    def _plain(self, value: Any, depth: int) -> object:
        if is_node(value):
            return self.known.get(value)
        if value is None or isinstance(value, bool | int | float | complex | str):
            return None if value is None else (type(value), repr(value))
        if isinstance(value, list | tuple) and depth < DEEPEST:
            return [self._plain(each, depth + 1) for each in value]
        if isinstance(value, Mapping) and depth < DEEPEST:
            return [(key, self._plain(each, depth + 1)) for key, each in value.items()]
        if isinstance(value, slice) and depth < DEEPEST:
            return [self._plain(each, depth + 1) for each in (value.start, value.stop, value.step)]
        is_torchs = type(value).__module__.startswith("torch")
        return str(value) if is_torchs else type(value).__qualname__


def _fits_identity(node: Any) -> bool:
    """Whether a call that is not looked into could be one of an Identity."""
    names = ["input" for _ in node.args] + [*node.kwargs]
    return node.op != "call_module" or names == ["input"]


def _target(node: Any) -> str:
    """What is called; an input by its place alone."""
    if node.op in ("placeholder", "output"):
        return ""
    target = node.target
    if isinstance(target, str):
        return target
    return f"{target.__module__}.{getattr(target, '__qualname__', target)}"
