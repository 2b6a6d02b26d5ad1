"""Branches and loops of TorchScript code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bncheck.readers.torchscript.joins import Join
from bncheck.readers.torchscript.program import Assign, If, Loop, Statement, Unclear, With
from bncheck.readers.torchscript.routines import NOTHING, Raised, Routine
from bncheck.readers.torchscript.scope import Scope
from bncheck.readers.torchscript.values import Budget, Computed, Runtime

if TYPE_CHECKING:
    from bncheck.readers.torchscript.follow import Follower
    from bncheck.readers.torchscript.world import World

MOST_TURNS = 64  # of a loop that is unrolled
MOST_TRIES = 3  # to find out what a loop changes


@dataclass(frozen=True, slots=True)
class Path:
    """What one branch did: the names that it set, and what it changed, by key of the heap."""

    names: Mapping[str, Runtime]
    changes: Mapping[object, Runtime]


def branch(follower: Follower, statement: If, scope: Scope) -> Routine:
    """An if: the branch that is taken, or both where that cannot be told."""
    test = yield follower.evaluate(statement.test, scope)
    known = _truth(test)
    if known is not None:
        return (yield follower.block(statement.then if known else statement.otherwise, scope))
    paths: list[Path] = []
    for block in (statement.then, statement.otherwise):
        path = yield _attempt(follower, block, scope)
        paths += [path] if path is not None else []
    if not paths:
        raise Raised
    _join(paths, test, scope, follower.world)
    return NOTHING


def _truth(test: Runtime) -> bool | None:
    return bool(test) if isinstance(test, bool | int | float) else None


def _attempt(follower: Follower, block: Sequence[Statement], scope: Scope) -> Routine:
    """Follow a branch and take back what it changed: its Path, or None where it raises an error."""
    world = follower.world
    before = world.mark()
    inner = scope.inner()
    try:
        result = yield follower.block(block, inner)
    except Raised:
        world.forget(before)
        return None
    if result is not NOTHING:
        raise Unclear("a branch returns")
    names = {name: world.tape.settled(value) for name, value in inner.names.items()}
    path = Path(names, world.changes(before))
    world.undo(before)
    return path


def _join(paths: Sequence[Path], test: Runtime, scope: Scope, world: World) -> None:
    """Go on behind an if with what its paths that raise no error have in common."""
    join = Join("prim.If", test, world.heap, world.tape, world.containers)
    first, second = paths[0], paths[-1]
    for name in {**first.names, **second.names}:
        if all(name in path.names for path in paths) or scope.knows(name):
            before = world.tape.settled(scope.find(name))
            left, right = (path.names.get(name, before) for path in (first, second))
            scope.names[name] = join.of(left, right)
    for key in {**first.changes, **second.changes}:
        left, right = (path.changes.get(key, world.present(key)) for path in (first, second))
        world.change(key, join.of_contents(left, right))
    join.finish()


def loop(follower: Follower, statement: Loop, scope: Scope) -> Routine:
    """A loop: turn by turn where the number of turns is known, else its body once."""
    for turn in range(MOST_TURNS + 1):
        over = yield follower.evaluate(statement.over, scope)
        turns_on = _turns_on(statement, over, turn)
        if turns_on is None:
            yield _any_number_of_turns(follower, statement, over, scope)
            break
        if not turns_on:
            break
        if statement.name is not None:
            scope.names[statement.name] = turn
        result = yield follower.block(statement.body, scope)
        if result is not NOTHING:
            return result
    return NOTHING


def _turns_on(statement: Loop, over: Runtime, turn: int) -> bool | None:
    """Whether there is another turn; None where that cannot be told, or there are too many."""
    if statement.name is None:
        return _truth(over) if turn < MOST_TURNS else None
    known = isinstance(over, int) and over <= MOST_TURNS
    return turn < over if known else None


def _any_number_of_turns(
    follower: Follower, statement: Loop, over: Runtime, scope: Scope
) -> Routine:
    """Follow the body once, between an opaque way into it and an opaque way out of it."""
    world = follower.world
    carried = [name for name in _assigned(statement.body, world.budget) if scope.knows(name)]
    changed: list[object] = []
    for _ in range(MOST_TRIES):
        before = world.mark()
        inner = scope.inner()
        first = {name: world.tape.settled(scope.find(name)) for name in carried}
        starts = {key: world.present(key) for key in changed}
        _enter(statement, over, first, starts, inner, world)
        try:
            result = yield follower.block(statement.body, inner)
        except Raised:
            world.forget(before)
            return NOTHING
        if result is not NOTHING:
            raise Unclear("a loop returns")
        more = [key for key in world.changes(before) if key not in changed]
        if not more:
            _leave(over, first, starts, scope, inner, world)
            return NOTHING
        world.forget(before)
        changed += more
    raise Unclear("a loop changes more with every look")


def _enter(
    statement: Loop,
    over: Runtime,
    first: Mapping[str, Runtime],
    starts: Mapping[object, Runtime],
    inner: Scope,
    world: World,
) -> None:
    """Let names and what is changed be what any turn of the loop may have made of them."""
    join = Join("prim.Loop", over, world.heap, world.tape, world.containers)
    names = {name: join.widened(value) for name, value in first.items()}
    contents = {key: join.widened(start) for key, start in starts.items()}
    join.finish()
    inner.names.update(names)
    for key, content in contents.items():
        world.change(key, content)
    if statement.name is not None:
        inner.names[statement.name] = Computed()


def _leave(
    over: Runtime,
    first: Mapping[str, Runtime],
    starts: Mapping[object, Runtime],
    scope: Scope,
    inner: Scope,
    world: World,
) -> None:
    """Go on behind a loop that may have had no turn."""
    join = Join("prim.Loop", over, world.heap, world.tape, world.containers)
    for name, value in first.items():
        scope.names[name] = join.of(value, world.tape.settled(inner.find(name)))
    for key, start in starts.items():
        world.change(key, join.of_contents(start, world.present(key)))
    join.finish()


def _assigned(block: Sequence[Statement], budget: Budget) -> list[str]:
    """The names that a block sets, in order."""
    names: dict[str, None] = {}
    waiting = [*reversed(block)]
    while waiting:
        budget.spend(1)
        statement = waiting.pop()
        match statement:
            case Assign():
                names.update(dict.fromkeys(statement.names))
            case If():
                waiting += [*reversed(statement.otherwise), *reversed(statement.then)]
            case Loop() | With():
                waiting += reversed(statement.body)
    return [*names]
