"""A live ExportedProgram as a Program: what torch.export.save would write, without writing it."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

from bncheck.errors import UnreadableModel
from bncheck.graph import Shape
from bncheck.readers.aten import Value
from bncheck.readers.aten.call import values
from bncheck.readers.exported.program import Body, Operation, Program, Scope
from bncheck.readers.live_module import parameter
from bncheck.readers.torch.values import Parameter
from bncheck.readers.tracing.fx_values import argument, is_node, shape_of
from bncheck.tensor import Tensor

DEEPEST = 32  # graphs within graphs
STORED = frozenset({"PARAMETER", "BUFFER", "CONSTANT_TENSOR"})
RETURNED = frozenset({"USER_OUTPUT", "LOSS_OUTPUT"})


def read_program(exported: Any) -> Program:
    """The program that a torch.export.ExportedProgram is."""
    inputs = exported.graph_signature.input_specs
    outputs = exported.graph_signature.output_specs
    tensors = dict(_tensors(exported))
    return Program(
        body=_body(exported.graph_module, 0),
        stored={
            each.arg.name: each.target
            for each in inputs
            if each.kind.name in STORED and each.target in tensors
        },
        given=tuple(
            each.arg.name
            for each in inputs
            if each.kind.name == "USER_INPUT" and _is_value(each.arg)
        ),
        returned=tuple(
            each.arg.name for each in outputs if each.kind.name in RETURNED and _is_value(each.arg)
        ),
        tensors=tensors,
    )


def _is_value(spec: Any) -> bool:
    return type(spec).__name__ != "ConstantArgument"


def _tensors(exported: Any) -> Iterator[tuple[str, Parameter]]:
    for name, tensor in {**getattr(exported, "constants", {}), **exported.state_dict}.items():
        held = parameter(tensor) if hasattr(tensor, "requires_grad") else None
        if held is not None and isinstance(held.tensor, Tensor):
            yield name, held


def _body(module: Any, depth: int) -> Body:
    if depth > DEEPEST:
        raise UnreadableModel(f"nests graphs more than {DEEPEST} deep")
    inputs: list[str] = []
    outputs: list[str] = []
    operations: list[Operation] = []
    shapes: dict[str, Shape] = {}
    for node in module.graph.nodes:
        _note_shape(node.name, node.meta.get("val"), shapes)
        if node.op == "placeholder":
            inputs.append(node.name)
        elif node.op == "output":
            outputs += values(argument(node.args))
        elif _is_part(node):
            operations += _repeated_part(node)
        elif not _is_graph(node, module):
            operations.append(_operation(node, module, depth))
    return Body(tuple(inputs), tuple(outputs), tuple(operations), shapes)


def _note_shape(name: str, value: Any, shapes: dict[str, Shape]) -> None:
    shape = shape_of(value)
    if shape is not None:
        shapes[name] = shape


def _is_graph(node: Any, module: Any) -> bool:
    return node.op == "get_attr" and hasattr(getattr(module, node.target, None), "graph")


def _has_parts(node: Any) -> bool:
    """Whether a node gives several values, of which each is taken by a node of its own."""
    return isinstance(node.meta.get("val"), list | tuple)


def _is_part(node: Any) -> bool:
    return node.target is operator.getitem and is_node(node.args[0]) and _has_parts(node.args[0])


def _parts(node: Any) -> dict[int, list[str]]:
    """The names under which the values of a node are taken, by position."""
    taken: dict[int, list[str]] = {}
    for user in node.users:
        if user.target is operator.getitem and user.args[0] is node:
            taken.setdefault(user.args[1], []).append(user.name)
    return taken


def _repeated_part(node: Any) -> Iterator[Operation]:
    first = _parts(node.args[0])[node.args[1]][0]
    if first != node.name:
        yield Operation("torch.ops.aten.alias.default", {"self": Value(first)}, (node.name,))


def outputs_of(node: Any) -> tuple[str, ...]:
    """The names of what a node makes: its own, or those under which its parts are taken."""
    if not _has_parts(node):
        return (node.name,)
    taken = _parts(node)
    unused = ([f"{node.name}_unused_{i}"] for i in range(len(node.meta["val"])))
    named = tuple(taken.get(i, default)[0] for i, default in enumerate(unused))
    whole = any(user.target is not operator.getitem for user in node.users)
    return (*named, node.name) if whole else named


def _operation(node: Any, module: Any, depth: int) -> Operation:
    bodies = [each for each in node.all_input_nodes if _is_graph(each, module)]
    graphs = {each.name for each in bodies}
    named = {name: argument(each) for name, each in _named(node)}
    return Operation(
        target=_target(node.target),
        arguments={n: a for n, a in named.items() if not graphs.intersection(values(a))},
        outputs=outputs_of(node),
        scopes=_scopes(node),
        bodies=tuple(_body(getattr(module, each.target), depth + 1) for each in bodies),
    )


def _named(node: Any) -> Iterator[tuple[str, Any]]:
    """The arguments by name; those of operators without a schema by position."""
    if node.op == "get_attr":
        return
    schema = getattr(node.target, "_schema", None)
    names = [each.name for each in schema.arguments] if schema else []
    for position, each in enumerate(node.args):
        yield names[position] if position < len(names) else str(position), each
    yield from node.kwargs.items()


def _target(target: Any) -> str:
    """The name that torch.export.save gives an operator."""
    if hasattr(target, "_schema"):
        return f"torch.ops.{target}"
    module = getattr(target, "__module__", "")
    if module.startswith("torch"):
        return f"torch.ops.higher_order.{getattr(target, '__name__', target)}"
    return f"{module}.{getattr(target, '__name__', target)}"


def _scopes(node: Any) -> tuple[Scope, ...]:
    held = node.meta.get("nn_module_stack") or {}
    return tuple(Scope(path, _class_path(kind)) for path, kind in held.values())


def _class_path(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else str(kind)
