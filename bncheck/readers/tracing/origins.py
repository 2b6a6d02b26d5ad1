"""Where the values of a trace come from: what folding has to know beyond the graph itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bncheck.readers.live_module import defined_in
from bncheck.readers.sequential import TORCH_MODULES
from bncheck.readers.tracing import functions

SHAPE_METHODS = frozenset({"size", "dim", "ndimension", "numel", "nelement", "stride", "type"})
SHAPE_FUNCTIONS = frozenset({"sym_size", "sym_numel", "sym_stride"})


@dataclass(frozen=True, slots=True)
class Origins:
    """By names of values, and qualified names of modules and tensors.

    ``scopes`` has the innermost module in which each value is made, ``in_place`` the values whose
    maker writes, or may write, into what it reads. ``readers`` counts the operations that read a
    stored tensor, all tensors of a module that was not looked into being read by its call.
    ``source`` is the torch.fx.Graph itself, ``stored`` the placeholders in it that are tensors of
    the module.
    """

    scopes: Mapping[str, str] = field(default_factory=dict)
    in_place: frozenset[str] = frozenset()
    readers: Mapping[str, int] = field(default_factory=dict)
    source: Any = None
    stored: frozenset[str] = frozenset()


def origins(graph: Any, module: Any, stored: Mapping[str, str] | None = None) -> Origins:
    """The origins of a torch.fx.Graph of a module.

    ``stored`` has the qualified names of tensors that are placeholders, as torch.export has them.
    """
    names = stored or {}
    return Origins(
        {node.name: scope for node in graph.nodes if (scope := _scope(node)) is not None},
        frozenset(node.name for node in graph.nodes if _may_write(node, module)),
        Counter(_read(graph, module, names)),
        graph,
        frozenset(names),
    )


def _scope(node: Any) -> str | None:
    stack = node.meta.get("nn_module_stack") or {}
    if node.op == "call_module":
        return str(node.target)
    return str([*stack.values()][-1][0]) if stack else None


def _may_write(node: Any, module: Any) -> bool:
    if node.op == "call_module":
        called = module.get_submodule(node.target)
        is_torch = defined_in(called).startswith(TORCH_MODULES)
        return getattr(called, "inplace", None) is True or not is_torch
    if node.op == "call_method":
        return functions.is_in_place(node.target, node.kwargs)
    if node.op != "call_function":
        return False
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        return bool(schema.is_mutable)
    return functions.is_in_place(node.target.__name__, node.kwargs)


def _read(graph: Any, module: Any, stored: Mapping[str, str]) -> Iterator[str]:
    constant: dict[Any, frozenset[str]] = {}  # the tensors that a node is made of, and nothing else
    for node in graph.nodes:
        if node.op == "call_module":
            yield from _held(module.get_submodule(node.target), node.target)
        elif node.op == "get_attr" or node.name in stored:
            constant[node] = frozenset({stored.get(node.name, str(node.target))})
            continue
        elif asks_for_shape(node):
            continue
        read = [constant[each] for each in node.all_input_nodes if each in constant]
        if read and len(read) == len(node.all_input_nodes) and node.op != "output":
            constant[node] = frozenset().union(*read)
        else:
            yield from (name for names in read for name in names)


def _held(module: Any, path: str) -> Iterator[str]:
    for named in (module.named_parameters, module.named_buffers):
        yield from (f"{path}.{name}" for name, _ in named(remove_duplicate=False))


def asks_for_shape(node: Any) -> bool:
    """Whether a node of torch.fx takes of what it reads the shape, the dtype or the like alone."""
    if node.op == "call_method":
        return node.target in SHAPE_METHODS
    if node.target is getattr:
        asked = node.args[1] if len(node.args) > 1 else ""
        return asked in functions.READ_ONLY or asked == "shape"
    return node.op == "call_function" and _name(node.target) in SHAPE_FUNCTIONS


def _name(target: Callable[..., Any]) -> str:
    return target.__name__.partition(".")[0]
