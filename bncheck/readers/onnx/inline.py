"""Flattens an ONNX model: local functions and bodies of control flow become one list of operations.

A body that takes inputs is entered through an opaque operation that makes them, and every node
with bodies ends as an opaque operation that reads its own inputs and what its bodies give. What a
body captures keeps the name it has outside. Names that would clash get a number: "y", "y#2".
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

from bncheck.errors import UnreadableModel
from bncheck.graph import Shape
from bncheck.readers.onnx.operation import Operation
from bncheck.readers.onnx.proto import FunctionProto, GraphProto, ModelProto, NodeProto
from bncheck.readers.onnx.protobuf import Span, quoted
from bncheck.readers.onnx.scope import (
    Bound,
    Scope,
    bodies,
    bound,
    filled_in,
    may_have_bodies,
    version,
)
from bncheck.readers.onnx.tensor import TensorProto

DEEPEST = 100
MOST_NODES = 250_000  # initializers count too
MOST_NAMES = 2_000_000


@dataclass(slots=True)
class Initializer:
    """A constant that a graph brings along, under its flat name."""

    name: str
    tensor: TensorProto


Flat = Operation | Initializer
Step = Flat | Iterator["Step"]


class Inliner:
    """Flattens one model; ``inputs``, ``outputs`` and ``shapes`` are complete after ``flat``.

    ``originals`` gives the name in the file of each value that had to be renamed.
    """

    def __init__(self, model: ModelProto, read_body: Callable[[Span], GraphProto]) -> None:
        self.inputs: tuple[str, ...] = ()
        self.outputs: tuple[str, ...] = ()
        self.shapes: dict[str, Shape] = {}
        self.originals: dict[str, str] = {}
        self._model = model
        self._read_body = read_body
        self._functions = _by_key(model.functions)
        self._outermost = Scope(model.opsets, model.graph.shapes)
        self._bodies: dict[Span, GraphProto] = {}
        self._copies: Counter[str] = Counter()
        self._nodes_left, self._names_left = MOST_NODES, MOST_NAMES

    def flat(self) -> Iterator[Flat]:
        """Everything in execution order, each value made before it is read.

        Raises UnreadableModel where that cannot be: a value made twice, or never, or a recursion.
        """
        stack: list[Iterator[Step]] = [self._main()]
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
            elif isinstance(step, Operation | Initializer):
                yield step
            elif len(stack) < DEEPEST:
                stack.append(step)
            else:
                raise UnreadableModel(f"nests functions or bodies more than {DEEPEST} deep")

    def _main(self) -> Iterator[Step]:
        graph = self._model.graph
        scope = self._outermost
        self._spend(0, len(graph.inputs) + len(graph.outputs))
        self.inputs = self._declare_inputs(graph, scope)
        yield from self._initializers(graph, scope)
        yield from self._nodes(graph.nodes, scope)
        self.outputs = tuple(self._find(scope, name, "the graph") for name in graph.outputs)

    def _nodes(self, nodes: Iterable[NodeProto], scope: Scope) -> Iterator[Step]:
        for node in nodes:
            self._spend(1, len(node.inputs) + len(node.outputs) + len(node.attributes))
            function = self._functions.get((node.domain, node.op, node.overload))
            if function is not None:
                yield self._call(function, node, scope)
            elif may_have_bodies(node):
                yield self._with_bodies(node, scope)
            else:
                yield self._plain(node, scope)

    def _plain(self, node: NodeProto, scope: Scope) -> Operation:
        return Operation(
            node.op,
            node.domain,
            version(node, scope),
            node.name,
            self._find_all(scope, node),
            self._declare_all(scope, node.outputs),
            filled_in(node, scope),
            proto=node,
        )

    def _call(self, function: FunctionProto, node: NodeProto, scope: Scope) -> Iterator[Step]:
        inner = self._scope_of_call(function, node, scope)
        results = self._declare_all(scope, node.outputs)
        inner.promised.update(zip(function.outputs, results, strict=False))
        yield self._nodes(function.nodes, inner)
        for formal, result in zip(function.outputs, results, strict=False):
            value = self._find(inner, formal, node)
            if result and value != result:  # an input handed through, or one value given twice
                yield Operation("Identity", "", 1, node.name, (value,), (result,))

    def _scope_of_call(self, function: FunctionProto, node: NodeProto, scope: Scope) -> Scope:
        given = self._find_all(scope, node)
        formal = function.inputs
        if len(given) > len(formal) or len(node.outputs) > len(function.outputs):
            raise UnreadableModel(f"calls function {quoted(function.name)} with too many arguments")
        if len(set(formal)) < len(formal):
            raise UnreadableModel(f"gives function {quoted(function.name)} two inputs of one name")
        self._spend(0, len(formal) + len(function.defaults))
        inner = Scope(ChainMap(function.opsets, self._model.opsets), function.shapes)
        inner.names.update(zip_longest(formal, given, fillvalue=""))
        defaults = {name: Bound(each, inner) for name, each in function.defaults.items()}
        inner.attributes = defaults | dict(bound(node, scope))
        return inner

    def _with_bodies(self, node: NodeProto, scope: Scope) -> Iterator[Step]:
        given = self._find_all(scope, node)
        read = list(given)
        for span, home in bodies(node, scope):
            graph = self._body(span)
            inner = Scope(home.opsets, graph.shapes, home.attributes, home)
            fed = self._declare_inputs(graph, inner)
            if fed:
                yield Operation(node.op, node.domain, 0, node.name, given, fed, opaque=True)
            yield from self._initializers(graph, inner)
            yield self._nodes(graph.nodes, inner)
            read += (self._find(inner, name, node) for name in graph.outputs)
        results = self._declare_all(scope, node.outputs)
        yield Operation(node.op, node.domain, 0, node.name, tuple(read), results, opaque=True)

    def _body(self, span: Span) -> GraphProto:
        if span not in self._bodies:
            self._bodies[span] = self._read_body(span)
        graph = self._bodies[span]
        self._spend(len(graph.initializers), len(graph.inputs) + len(graph.outputs))
        return graph

    def _initializers(self, graph: GraphProto, scope: Scope) -> Iterator[Initializer]:
        for tensor in graph.initializers:
            if not tensor.name:
                raise UnreadableModel("holds an initializer without a name")
            yield Initializer(self._declare(scope, tensor.name), tensor)

    def _declare_inputs(self, graph: GraphProto, scope: Scope) -> tuple[str, ...]:
        """The inputs that are fed: before IR version 4 initializers had to be listed there too."""
        constant = {tensor.name for tensor in graph.initializers}
        fed = [name for name in graph.inputs if name and name not in constant]
        return self._declare_all(scope, fed)

    def _declare_all(self, scope: Scope, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(self._declare(scope, name) if name else "" for name in names)

    def _declare(self, scope: Scope, local: str) -> str:
        if local in scope.names:
            raise UnreadableModel(
                f"makes value {quoted(local)} twice, so that two readings are possible"
            )
        flat = scope.promised.pop(local, "") or self._unique(local, scope)
        scope.names[local] = flat
        if local in scope.shapes:
            self.shapes.setdefault(flat, scope.shapes[local])
        return flat

    def new_name(self, like: str) -> str:
        """The name of one more value, which has the shape of another."""
        name = self._untaken(like)
        if like in self.shapes:
            self.shapes[name] = self.shapes[like]
        return name

    def _unique(self, local: str, scope: Scope) -> str:
        return local if scope is self._outermost else self._untaken(local)

    def _untaken(self, local: str) -> str:
        flat = local
        while flat in self._taken:
            self._copies[local] += 1
            flat = f"{local}#{self._copies[local] + 1}"
        self._taken.add(flat)
        if flat != local:
            self.originals[flat] = local
        return flat

    @cached_property
    def _taken(self) -> set[str]:
        """The names of the main graph, which are kept as they are, and all given since."""
        graph = self._model.graph
        made = (name for node in graph.nodes for name in node.outputs)
        return {*graph.inputs, *(tensor.name for tensor in graph.initializers), *made}

    def _find(self, scope: Scope, local: str, reader: object) -> str:
        flat = scope.find(local)
        if flat is None:
            raise UnreadableModel(
                f"is no graph that can run: {reader} reads {quoted(local)}, "
                "which nothing makes before it"
            )
        return flat

    def _find_all(self, scope: Scope, node: NodeProto) -> tuple[str, ...]:
        return tuple(self._find(scope, name, node) for name in node.inputs)

    def _spend(self, nodes: int, names: int) -> None:
        self._nodes_left -= nodes
        self._names_left -= names
        if self._nodes_left < 0 or self._names_left < 0:
            raise UnreadableModel(
                f"has more than {MOST_NODES:,} nodes and constants, or {MOST_NAMES:,} names of "
                "values, once its functions are called: too many for a model"
            )


def _by_key(functions: Iterable[FunctionProto]) -> dict[tuple[str, str, str], FunctionProto]:
    found: dict[tuple[str, str, str], FunctionProto] = {}
    for function in functions:
        key = function.domain, function.name, function.overload
        if found.setdefault(key, function) is not function:
            raise UnreadableModel(f"holds function {quoted(function.name)} twice")
    return found
