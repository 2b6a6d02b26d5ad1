"""Follows TorchScript code from a module's ``forward`` on, and writes down what it does to tensors.

Calls are inlined. A branch whose condition is known is taken; of any other both sides are followed,
and what they give is joined. A loop that turns a known, small number of times is unrolled; of any
other the body is followed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bncheck.readers.torchscript import branches, calls
from bncheck.readers.torchscript.objects import ScriptObject
from bncheck.readers.torchscript.program import (
    Assign,
    Attribute,
    Define,
    Evaluate,
    Expression,
    Function,
    Gather,
    If,
    Invoke,
    Load,
    Loop,
    Parameter,
    Push,
    Return,
    Section,
    SetAttribute,
    Statement,
    Subscript,
    Unclear,
    With,
)
from bncheck.readers.torchscript.routines import NOTHING, Raised, Routine, drive
from bncheck.readers.torchscript.scope import Scope
from bncheck.readers.torchscript.values import Closure, Data, Runtime, Stored, leaves
from bncheck.readers.torchscript.world import World


class Follower:
    """One run of the code of an archive."""

    def __init__(self, world: World) -> None:
        self.world = world

    def forward(self, root: ScriptObject) -> tuple[str, ...]:
        """Follow a module's forward; the values that it gives. Raises Unclear where it cannot."""
        library = self.world.library
        owner = library.class_named(root.class_name)
        method = library.method(owner, "forward") if owner is not None else None
        if method is None:
            raise Unclear("the archive has no forward")
        given = [root, *map(self._given, method.parameters[1:])]
        try:
            result = drive(self.call(method, given, Scope(self.world.owner(root))))
        except Raised:
            raise Unclear("its forward raises an error whatever it is given") from None
        tensors = (v for v in leaves(result, self.world.heap) if isinstance(v, Data | Stored))
        return tuple(self.world.tape.latest(tensor.name) for tensor in tensors)

    def _given(self, parameter: Parameter) -> Runtime:
        """What a caller gives for a parameter: its default, where it need not give anything."""
        if parameter.default is not None:
            return drive(self.evaluate(parameter.default, Scope(None)))
        return calls.given(parameter.annotation, parameter.name, self.world)

    def call(self, function: Function, arguments: Sequence[Runtime], scope: Scope) -> Routine:
        """Run a function; ``scope`` is still empty, or what a closure sees."""
        if len(arguments) > len(function.parameters):
            raise Unclear(f"{function.name} is called with too many arguments")
        for parameter, argument in zip(function.parameters, arguments, strict=False):
            scope.names[parameter.name] = argument
        for parameter in function.parameters[len(arguments) :]:
            if parameter.default is None:
                raise Unclear(f"{function.name} is called without {parameter.name!r}")
            scope.names[parameter.name] = yield self.evaluate(parameter.default, scope)
        result = yield self.block(function.body, scope)
        return None if result is NOTHING else result

    def block(self, statements: Sequence[Statement], scope: Scope) -> Routine:
        """Run statements; what they return, or NOTHING."""
        for statement in statements:
            result = yield self._statement(statement, scope)
            if result is not NOTHING:
                return result
        return NOTHING

    def _statement(self, statement: Statement, scope: Scope) -> Routine:
        match statement:
            case Assign():
                value = yield self.evaluate(statement.value, scope)
                self._assign(statement, value, scope)
            case Return():
                return (yield self.evaluate(statement.value, scope))
            case Evaluate():
                yield self.evaluate(statement.value, scope)
            case If():
                return (yield branches.branch(self, statement, scope))
            case Loop():
                return (yield branches.loop(self, statement, scope))
            case SetAttribute():
                target = yield self.evaluate(statement.target, scope)
                value = yield self.evaluate(statement.value, scope)
                self.world.set_attribute(target, statement.name, value)
            case With():
                value = yield self.evaluate(statement.value, scope)
                if statement.name is not None:
                    scope.names[statement.name] = value
                return (yield self.block(statement.body, scope))
            case Define():
                scope.names[statement.function.name] = Closure(statement.function, scope)
        return NOTHING

    def _assign(self, statement: Assign, value: Runtime, scope: Scope) -> None:
        if not statement.unpack:
            scope.names[statement.names[0]] = value
            return
        items = self.world.containers.unpack(value, len(statement.names))
        scope.names.update(zip(statement.names, items, strict=True))

    def evaluate(self, steps: Expression, scope: Scope) -> Routine:
        """The value of an expression."""
        self.world.budget.spend(1 + len(steps))
        stack: list[Runtime] = []
        for step in steps:
            match step:
                case Load():
                    stack.append(scope.find(step.name))
                case Push():
                    stack.append(step.value)
                case Attribute():
                    stack.append(self.world.attribute(stack.pop(), step.name))
                case Invoke():
                    called, positional, named = _arguments(stack, step)
                    stack.append((yield calls.invoke(self, called, positional, named, scope)))
                case Gather():
                    stack.append(self._gather(step, _taken(stack, step.count)))
                case Subscript():
                    target, key = _taken(stack, 2)
                    stack.append(self.world.containers.item(target, key))
                case Section():
                    target, begin, end = _taken(stack, 3)
                    stack.append(self.world.containers.section(target, begin, end))
        return stack[0]

    def _gather(self, step: Gather, items: list[Runtime]) -> Runtime:
        if step.container is tuple:
            return tuple(items)
        containers = self.world.containers
        make = containers.new_list if step.container is list else containers.new_dictionary
        return make(items)


def _taken(stack: list[Runtime], count: int) -> list[Runtime]:
    begin = len(stack) - count
    taken = stack[begin:]
    del stack[begin:]
    return taken


def _arguments(
    stack: list[Runtime], step: Invoke
) -> tuple[Runtime, list[Runtime], Mapping[str, Runtime]]:
    arguments = _taken(stack, step.count)
    split = step.count - len(step.keywords)
    named = dict(zip(step.keywords, arguments[split:], strict=True))
    return stack.pop(), arguments[:split], named
