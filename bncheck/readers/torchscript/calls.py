"""Calls in TorchScript code: of operators, of its own functions, methods and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bncheck.readers.torchscript.library import ROOT
from bncheck.readers.torchscript.objects import HOOKS, ScriptObject
from bncheck.readers.torchscript.program import Unclear
from bncheck.readers.torchscript.routines import Routine
from bncheck.readers.torchscript.scope import Scope
from bncheck.readers.torchscript.tokens import LONGEST_NAME
from bncheck.readers.torchscript.values import (
    DEEPEST,
    UNINITIALIZED,
    UNKNOWN,
    Closure,
    Computed,
    Data,
    Method,
    Named,
    Runtime,
    words,
)
from bncheck.readers.torchscript.world import World

if TYPE_CHECKING:
    from bncheck.readers.torchscript.follow import Follower

CONVERSIONS = words("int float bool str sorted")
NEW = "__new__"
NUMBERS = words("int float bool complex number str Scalar Device")


def given(annotation: str, name: str, world: World, depth: int = 0) -> Runtime:
    """What a caller gives for a parameter of some type."""
    if depth > DEEPEST:
        raise Unclear("a parameter has a type that is nested too deep")
    outer, _, rest = annotation.partition("[")
    inner = rest.removesuffix("]")
    if outer == "Tuple" and inner != "()":
        parts = enumerate(_split(inner))
        return tuple(given(part, f"{name}.{index}", world, depth + 1) for index, part in parts)
    if outer == "Optional":
        value = given(inner, name, world, depth + 1)
        return Data(value.name, optional=True) if isinstance(value, Data) else UNKNOWN
    if annotation in NUMBERS:
        return Computed(world.tape.give(name), of_shape=False)
    return world.tape.give(name)


def _split(types: str) -> list[str]:
    """Types at commas that stand in no bracket."""
    parts, depth = [""], 0
    for character in types:
        depth += (character == "[") - (character == "]")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def invoke(
    follower: Follower,
    called: Runtime,
    positional: Sequence[Runtime],
    named: Mapping[str, Runtime],
    scope: Scope,
) -> Routine:
    """The result of a call."""
    world = follower.world
    match called:
        case Named(path=path) if path in _BUILTINS:
            return _BUILTINS[path](world, positional)
        case Named(path="fork") if positional:
            return (yield invoke(follower, positional[0], (), {}, scope))
        case Named(path=path) if path in CONVERSIONS:
            return world.operators.apply(f"torch.{path}", positional, {}, scope.owner)
        case Named(path=path) if path.startswith(f"{ROOT}."):
            return (yield _defined(follower, path, positional, scope))
        case Named(path=path) if "." in path:
            return world.operators.apply(path, positional, named, scope.owner)
        case Method(target=ScriptObject() as target, name=name):
            return (yield _method(follower, target, name, positional, scope))
        case Method(target=target, name=name):  # as x.tolist()
            return world.operators.apply(f"torch.{name}", [target, *positional], {}, scope.owner)
        case Closure(function=function, scope=outer):
            return (yield follower.call(function, positional, outer.inner()))
    raise Unclear("something is called that is not known")


def _defined(follower: Follower, path: str, arguments: Sequence[Runtime], scope: Scope) -> Routine:
    """A call of a function or class that the archive's code defines."""
    library = follower.world.library
    owner, _, name = path.rpartition(".")
    if name == NEW:
        return follower.world.new(owner)
    function = library.function(path)
    if function is not None:
        return (yield follower.call(function, arguments, Scope(scope.owner)))
    kind = library.class_named(path)
    if kind is not None and kind.base == "NamedTuple":
        return tuple(arguments)
    raise Unclear(f"the archive has no code for {path!r}")


def _method(
    follower: Follower, target: ScriptObject, name: str, given: Sequence[Runtime], scope: Scope
) -> Routine:
    world = follower.world
    if target.script_class is None:  # of C++, as the packed weights of a quantized layer
        path = f"ops.{target.class_path[:LONGEST_NAME]}.{name}"
        return world.operators.apply(path, given, {}, scope.owner)
    if name == "forward" and any(map(target.script_class.lists.get, HOOKS)):
        raise Unclear("a module has hooks")
    function = world.library.method(target.script_class, name)
    if function is None:
        raise Unclear(f"the archive has no method {name!r} of {target.class_path!r}")
    owner = world.owner(target) or scope.owner
    return (yield follower.call(function, [target, *given], Scope(owner)))


def _second(world: World, arguments: Sequence[Runtime]) -> Runtime:
    """annotate(type, value) and the like."""
    if len(arguments) != 2:
        raise Unclear("a type is not followed by a value")
    value = arguments[1]
    return Data(value.name) if isinstance(value, Data) else value


def _attribute(world: World, arguments: Sequence[Runtime]) -> Runtime:
    match arguments:
        case [target, str(name)]:
            return world.attribute(target, name)
    raise Unclear("an attribute has a name that is computed")


def _nothing(world: World, arguments: Sequence[Runtime]) -> Runtime:
    return None


def _uninitialized(world: World, arguments: Sequence[Runtime]) -> Runtime:
    return UNINITIALIZED


def _is_instance(world: World, arguments: Sequence[Runtime]) -> Runtime:
    return UNKNOWN


def _device(world: World, arguments: Sequence[Runtime]) -> Runtime:
    return arguments[0] if arguments and isinstance(arguments[0], str) else UNKNOWN


_BUILTINS = {
    "annotate": _second,
    "unchecked_cast": _second,
    "getattr": _attribute,
    "print": _nothing,
    "uninitialized": _uninitialized,
    "isinstance": _is_instance,
    "torch.device": _device,
}
