"""Makes the graph of an exported program: bodies of control flow inlined, constants absorbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from bncheck.errors import UnreadableModel
from bncheck.graph import Graph, Node, NodeKind, Shape
from bncheck.model import Kind, NormLayer
from bncheck.readers import aten
from bncheck.readers.aten import Argument, Call, Constants, Value
from bncheck.readers.aten.call import values
from bncheck.readers.aten.layers import ROLES, Normalization, layers, owner
from bncheck.readers.exported.program import Body, Operation, Program, Scope
from bncheck.readers.inference import note_shapes
from bncheck.tensor import Tensor

TORCH = "torch.nn.modules."
CONTAINER = "torch.nn.modules.container."
HIGHER_ORDER = "torch.ops.higher_order."
# Run their one body once, on just the values that they are given.
WRAPPERS = ("wrap", "tag_activation_checkpoint", "invoke_subgraph", "hints_wrapper", "strict_mode")
BRANCHES = ("cond", "switch")


Observe = Callable[[Node, Operation, Mapping[str, str]], None]


def unobserved(node: Node, operation: Operation, places: Mapping[str, str]) -> None:
    """Nobody wants to know what a node was made of."""


def flatten(program: Program, observe: Observe = unobserved) -> tuple[Graph, tuple[NormLayer, ...]]:
    """The graph of a program, and its normalization layers.

    ``observe`` is told of each node the operation that it was made of, and which argument of it is
    which parameter. Raises UnreadableModel where a value is made twice, or read before it is made.
    """
    flattener = _Flattener(program, observe)
    names = flattener.run(program.body)
    try:
        inputs = tuple(names[value] for value in program.given)
        outputs = tuple(names[value] for value in program.returned)
    except KeyError as error:
        raise _never_made(str(error.args[0])) from None
    graph = Graph(tuple(flattener.nodes), inputs, outputs, flattener.shapes)
    return graph, layers(flattener.found, graph, program.tensors)


def _never_made(value: str) -> UnreadableModel:
    return UnreadableModel(f"is no graph that can run: nothing makes the value {value!r}")


def _made_twice(value: str) -> UnreadableModel:
    return UnreadableModel(f"makes value {value!r} twice: two readings are possible")


def _bind(names: dict[str, str], value: str, flat: str) -> None:
    """Let a value of a body stand for one of the graph."""
    if value in names:
        raise _made_twice(value)
    if value:
        names[value] = flat


class _Flattener:
    def __init__(self, program: Program, observe: Observe) -> None:
        self._observe = observe
        self.nodes: list[Node] = []
        self.found: list[Normalization] = []
        self.shapes: dict[str, Shape] = {}
        self._made: set[str] = set()
        self._bodies = 0
        self._qualified = program.stored
        tensors = ((v, program.tensors[name].tensor) for v, name in program.stored.items())
        self._constants = Constants({v: each for v, each in tensors if isinstance(each, Tensor)})

    def run(self, body: Body) -> Mapping[str, str]:
        """Take up a body that no other calls; the flat name of each of its values."""
        names: dict[str, str] = {}
        self._declare(body.inputs, names, body, "")
        self._run(body, names, "")
        return names

    def _run(self, body: Body, names: dict[str, str], prefix: str) -> None:
        for operation in body.operations:
            arguments = {n: _renamed(a, names) for n, a in operation.arguments.items()}
            if operation.bodies:
                self._enter(operation, arguments, names, body, prefix)
            else:
                outputs = self._declare(operation.outputs, names, body, prefix)
                self._add(operation, arguments, outputs)

    def _declare(
        self, values: Sequence[str], names: dict[str, str], body: Body, prefix: str
    ) -> tuple[str, ...]:
        flat = tuple(value and prefix + value for value in values)
        for value, each in zip(values, flat, strict=True):
            if each in self._made:
                raise _made_twice(value)
            _bind(names, value, each)
            if value in body.shapes:
                self.shapes[each] = body.shapes[value]
        self._made.update(filter(None, flat))
        return flat

    def _enter(
        self,
        operation: Operation,
        arguments: Mapping[str, Argument],
        names: dict[str, str],
        body: Body,
        prefix: str,
    ) -> None:
        """Inline the bodies of an operation; how they get their inputs depends on what it does."""
        name = operation.target.removeprefix(HIGHER_ORDER)
        given = [*values([*arguments.values()])]
        results: list[str] = []
        for inner in operation.bodies:
            self._bodies += 1
            deeper = f"{prefix}{name}#{self._bodies}/"
            local = self._inputs(name, given, inner, operation, deeper)
            self._run(inner, local, deeper)
            results += (_found(local, value) for value in inner.outputs if value)
        if name.startswith(WRAPPERS) and len(results) == len(operation.outputs):
            for value, result in zip(operation.outputs, results, strict=True):
                _bind(names, value, result)
            return
        outputs = self._declare(operation.outputs, names, body, prefix)
        self.nodes.append(_opaque(operation, (*given, *results), outputs))

    def _inputs(
        self, name: str, given: list[str], inner: Body, operation: Operation, prefix: str
    ) -> dict[str, str]:
        """The names that a body's inputs stand for: those given, or new ones that nothing knows."""
        number = len(inner.inputs)
        if name.startswith((*WRAPPERS, *BRANCHES)) and len(given) >= number:
            return dict(zip(inner.inputs, given[len(given) - number :], strict=True))
        local: dict[str, str] = {}
        made = self._declare(inner.inputs, local, inner, prefix)
        self.nodes.append(_opaque(operation, tuple(given), made))
        return local

    def _add(
        self, operation: Operation, arguments: Mapping[str, Argument], outputs: tuple[str, ...]
    ) -> None:
        call = _call(operation, arguments, outputs, self._module(operation, arguments))
        if aten.is_assertion(call) or self._constants.absorb(call):
            return
        node = aten.node(call, self._constants, self.shapes)
        self.nodes.append(node)
        if self._observe is not unobserved:
            self._observe(node, operation, aten.places(call, self._constants, self.shapes))
        note_shapes(node, self.shapes)
        kind = aten.norm_kind(call)
        if kind is not None:
            self.found.append(self._normalization(kind, node, call, operation.scopes))
        if (
            call.op.endswith("_functional") and len(outputs) > 2
        ):  # its last outputs take the place of the buffers
            self._constants.alias(outputs[-2], call.value("running_mean"))
            self._constants.alias(outputs[-1], call.value("running_var"))

    def _normalization(
        self, kind: Kind, node: Node, call: Call, scopes: tuple[Scope, ...]
    ) -> Normalization:
        name = call.name or next(filter(None, node.outputs), node.op)
        inner = next((scope for scope in reversed(scopes) if scope.path == name), None)
        class_path = inner.class_path if inner else node.op
        return Normalization(kind, node, name, class_path, {r: call.value(r) for r in ROLES})

    def _module(self, operation: Operation, arguments: Mapping[str, Argument]) -> str:
        """The module that a call belongs to: whose parameters it has, else which it runs in."""
        stored = dict(self._stored(arguments))
        if module := owner(stored):
            return module
        inner = operation.scopes[-1] if operation.scopes else Scope("", "")
        if inner.class_path.startswith(TORCH) and not inner.class_path.startswith(CONTAINER):
            return inner.path
        return next((name.rpartition(".")[0] for name in stored.values() if "." in name), "")

    def _stored(self, arguments: Mapping[str, Argument]) -> Iterator[tuple[str, str]]:
        """The qualified names of the stored tensors among arguments."""
        for name, argument in arguments.items():
            if isinstance(argument, Value):
                qualified = self._qualified.get(self._constants.origin(argument.name))
                if qualified:
                    yield name, qualified


def _call(
    operation: Operation, arguments: Mapping[str, Argument], outputs: tuple[str, ...], name: str
) -> Call:
    """The call, with "torch.ops.aten.add_.Tensor" as "aten.add" and its overload."""
    parts = operation.target.removeprefix("torch.ops.").split(".")
    if len(parts) != 3 or not operation.target.startswith("torch.ops."):
        return Call(operation.target, arguments, outputs, name)
    return Call(f"{parts[0]}.{aten.base_name(parts[1])}", arguments, outputs, name, parts[2])


def _opaque(operation: Operation, read: tuple[str, ...], made: tuple[str, ...]) -> Node:
    return Node(NodeKind.OPAQUE, operation.target.removeprefix("torch.ops."), "", read, made)


def _renamed(argument: Argument, names: Mapping[str, str]) -> Argument:
    if isinstance(argument, Value):
        return Value(_found(names, argument.name))
    if isinstance(argument, list | tuple):
        return [_renamed(each, names) for each in argument]
    return argument


def _found(names: Mapping[str, str], value: str) -> str:
    if value not in names:
        raise _never_made(value)
    return names[value]
