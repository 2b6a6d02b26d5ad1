"""Which module holds a parameter that a trace shows, and whether it may change or go."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bncheck.folding.arithmetic import LARGEST
from bncheck.folding.memory import overwritten
from bncheck.folding.reasons import Reason
from bncheck.folding.torch import leftovers
from bncheck.graph import Graph, Node, NodeKind
from bncheck.readers import live_module
from bncheck.readers.module_tree import HOOKS
from bncheck.readers.tracing import tracer
from bncheck.readers.tracing.origins import Origins
from bncheck.tensor import Tensor

OF_BACKWARD = ("_backward_hooks", "_backward_pre_hooks")
QUANTIZED = "torch.ao."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is held: the path of a module, and the name there."""

    path: str
    name: str

    def __str__(self) -> str:
        return _joined(self.path, self.name)

    def holder(self, root: Any) -> dict[str, Any]:
        """The dictionary of a module within ``root`` that holds the tensor."""
        module = root.get_submodule(self.path)
        return next(held for held in (module._parameters, module._buffers) if self.name in held)


class Owners:
    """What a trace of a module says of its parts: who holds which tensor, and who reads it."""

    def __init__(self, module: Any, graph: Graph, origins: Origins) -> None:
        self.modules: Mapping[str, Any] = dict(_by_path(module))
        self._origins = origins
        self._names: dict[int, str] = {id(each): path for path, each in module.named_modules()}
        self._calls = Counter(self.scope(n) for n in graph.nodes if _is_norm(n))
        self._graph = graph
        self._places: dict[Hashable, list[Place]] = {}
        self._readers: Counter[Hashable] = Counter()
        self._overwritten = overwritten(graph, origins.in_place)
        self._hidden = frozenset(map(id, _unregistered(module)))
        self._leftovers: dict[str, Any] = {}
        for path, owner in module.named_modules():
            self._note(path, owner)

    def _note(self, path: str, owner: Any) -> None:
        for name, held in _tensors(owner):
            storage = live_module.tensor(held).storage
            self._places.setdefault(storage, []).append(Place(path, name))
            self._readers[storage] += self._origins.readers.get(_joined(path, name), 0)

    def scope(self, node: Node) -> str:
        """The innermost module in which a node runs, under the first of its names."""
        path = self._origins.scopes.get(node.outputs[0], "") if node.outputs else ""
        return self._names.get(id(self.modules.get(path)), path)

    def module_of(self, node: Node) -> Any | None:
        """The module of which a node is a whole call, or the part that normalizes; else None."""
        module = self.modules.get(node.name) if node.name else None
        return module if self._names.get(id(module)) == self.scope(node) else None

    def place(self, tensor: Tensor) -> Place | None:
        """The one place that holds a tensor whole; None where it has none, or several."""
        places = self._places.get(tensor.storage, []) if tensor.storage is not None else []
        if len(places) != 1:
            return None
        held = _attribute(self.modules[places[0].path], places[0].name)
        registered = held is not None and tuple(held.shape) == tensor.shape
        return places[0] if registered else None

    def place_of(self, node: Node, role: str) -> Place | None:
        """Where a parameter of a node is held, or where a new bias can be put.

        A forward that is not PyTorch's own may leave that bias alone: whoever puts it there looks.
        """
        held = node.parameters.get(role)
        if isinstance(held, Tensor):
            return self.place(held)
        weight = node.parameters.get("weight")
        beside = self.place(weight) if isinstance(weight, Tensor) else None
        if role != "bias" or beside is None or beside.name != "weight":
            return None
        module = self.modules[beside.path]
        free = "bias" in module._parameters and module.bias is None
        return Place(beside.path, "bias") if free else None

    def leftover(self, path: str) -> Any | None:
        """What stands for a BatchNorm module once it is folded; None where that is unknown.

        Of one that tracing did not look into, nothing may be left.
        """
        if path not in self._leftovers:
            module = self.modules[path]
            left = leftovers.of(module)
            is_whole = isinstance(left, importlib.import_module("torch.nn").Identity)
            self._leftovers[path] = left if is_whole or not tracer.is_one_call(module) else None
        return self._leftovers[path]

    def objection(self, node: Node) -> Reason | None:
        """Why a node of a trace cannot change or go; None where it can.

        A node that is no module is a line of code. Its parameters can change, but it cannot go.
        """
        module = self.modules.get(node.name) if node.name else None
        if module is not None and is_hooked(module):
            return Reason.HOOKED
        if module is not None and "forward" in vars(module):
            return Reason.FUNCTIONAL
        if not self._overwritten.isdisjoint((*node.inputs, *node.outputs)):
            return Reason.READ_ELSEWHERE
        if _is_norm(node):
            return self._against_removal(node)
        held = [each for each in node.parameters.values() if isinstance(each, Tensor)]
        if not held or node.kind in (NodeKind.ADD, NodeKind.MUL):
            return Reason.FUNCTIONAL
        return self._against_code(node) or self._against_change(held)

    def _against_removal(self, node: Node) -> Reason | None:
        if tracer.is_one_call(self.modules[""]):
            return Reason.MODEL_INPUT  # the whole model is a BatchNorm
        module, path = self.module_of(node), self.scope(node)
        if module is None or self.leftover(path) is None:
            return Reason.FUNCTIONAL
        names = (_joined(path, name) for name, _ in _tensors(module))
        is_read = any(self._origins.readers.get(name, 0) > self._calls[path] for name in names)
        return Reason.SHARED if is_read or id(module) in self._hidden else None

    def _against_code(self, node: Node) -> Reason | None:
        """An operator that is a call of a module must compute what PyTorch's own class does."""
        module = self.module_of(node)
        if module is None or leftovers.is_plain(module) or not tracer.is_one_call(module):
            return None
        is_quantized = live_module.defined_in(module).startswith(QUANTIZED)
        return Reason.QUANTIZED if is_quantized else Reason.FUNCTIONAL

    def _against_change(self, held: list[Tensor]) -> Reason | None:
        for each in held:
            if each.dtype not in LARGEST:
                return Reason.PRECISION
            if not self.place(each) or self._readers[each.storage] > self._graph.holders(each):
                return Reason.SHARED
        return None


def is_hooked(module: Any) -> bool:
    """Whether somebody sees, or changes, what goes in or out of a module."""
    return any(vars(module).get(name) for name in (*HOOKS, *OF_BACKWARD))


def _by_path(root: Any) -> Iterator[tuple[str, Any]]:
    """All modules under their first names, and under those that their parents have for them."""
    for path, module in root.named_modules():
        yield path, module
        for name, child in module._modules.items():
            if child is not None:
                yield _joined(path, name), child


def _is_norm(node: Node) -> bool:
    return node.kind is NodeKind.BATCH_NORM


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _attribute(module: Any, name: str) -> Any | None:
    return module._parameters.get(name, module._buffers.get(name))


def _tensors(module: Any) -> Iterator[tuple[str, Any]]:
    """Parameters, buffers, and tensors that are plain attributes, of a module alone."""
    for held in (module._parameters, module._buffers, vars(module)):
        yield from ((n, t) for n, t in held.items() if live_module.is_dense_tensor(t))


def _unregistered(root: Any) -> Iterator[Any]:
    """Modules that others hold in plain containers, where no replacement reaches them."""
    kind: Any = importlib.import_module("torch.nn").Module
    for module in root.modules():
        for name, held in vars(module).items():
            if name != "_modules":
                yield from _within(held, kind)


def _within(held: Any, kind: type) -> Iterator[Any]:
    waiting, seen = [held], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, kind):
            yield each
        elif isinstance(each, list | tuple | set | dict):
            waiting += each.values() if isinstance(each, dict) else each
        elif isinstance(getattr(each, "__self__", None), kind):  # a bound method
            yield each.__self__
