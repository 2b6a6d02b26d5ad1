"""What code reads of modules from outside them: such attributes cannot go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from bncheck.errors import CannotFold
from bncheck.folding.torchscript.code import flat
from bncheck.readers.torchscript.library import Library
from bncheck.readers.torchscript.objects import ScriptObject
from bncheck.readers.torchscript.program import (
    Assign,
    Attribute,
    Evaluate,
    Expression,
    Function,
    Gather,
    If,
    Invoke,
    Load,
    Loop,
    Push,
    Return,
    Section,
    SetAttribute,
    Statement,
    Step,
    Subscript,
    Unclear,
    With,
)

Objects = frozenset[ScriptObject]
NONE: Objects = frozenset()
ALL = "*"  # what is handed on may be asked for anything


def foreign_reads(
    library: Library, objects: Iterable[ScriptObject]
) -> Mapping[ScriptObject, set[str]]:
    """The attributes and methods of each object that code of other objects names.

    Code that is never reached counts: it has to compile. Raises CannotFold for code that is not
    understood.
    """
    by_class: dict[str, list[ScriptObject]] = defaultdict(list)
    for each in objects:
        by_class[each.class_name].append(each)
    found: dict[ScriptObject, set[str]] = defaultdict(set)
    for same in by_class.values():
        for method in _methods(library, same[0]):
            _Method(frozenset(same), method, found).look()
    return found


def _methods(library: Library, target: ScriptObject) -> Iterator[Function]:
    owner = target.script_class
    if owner is None:
        return
    try:
        found = [library.method(owner, name) for name in owner.methods]
    except Unclear as unclear:
        raise CannotFold(f"its code is not understood: {unclear}") from unclear
    yield from (method for method in found if method is not None)


class _Method:
    """Follows what objects the names of a method stand for, down every branch."""

    def __init__(self, own: Objects, method: Function, found: dict[ScriptObject, set[str]]) -> None:
        self._own = own
        self._body = method.body
        self._found = found
        self._names = {each.name: own for each in method.parameters[:1]}

    def look(self) -> None:
        for statement in flat(self._body):
            made = [self._evaluate(each) for each in _expressions(statement)]
            if isinstance(statement, Assign) and not statement.unpack:
                name = statement.names[0]
                self._names[name] = self._names.get(name, NONE) | made[0]
            elif isinstance(statement, SetAttribute):
                self._attribute(made[0], statement.name)

    def _evaluate(self, expression: Expression) -> Objects:
        stack: list[Objects] = []
        before: tuple[Step | None, ...] = (None, None, *expression)
        for step, last in zip(expression, before[1:], strict=False):
            count = _operands(step)
            taken = stack[len(stack) - count :]
            del stack[len(stack) - count :]
            stack.append(self._made(step, last, taken))
        return stack[-1] if stack else NONE

    def _made(self, step: Step, last: Step | None, taken: list[Objects]) -> Objects:
        """``last`` is the step before: the name that getattr is given."""
        match step, last:
            case Load(), _:
                return self._names.get(step.name, NONE)
            case Attribute(), _:
                return self._attribute(taken[0], step.name)
            case Invoke(count=2, keywords=()), Push(value=str() as name):
                return self._attribute(taken[1], name)
        for each in NONE.union(*taken):
            self._found[each].add(ALL)
        return NONE

    def _attribute(self, objects: Objects, name: str) -> Objects:
        for each in objects if objects is not self._own else ():
            self._found[each].add(name)
        children = (each.children.get(name) for each in objects)
        return frozenset(each for each in children if each is not None)


def _operands(step: Step) -> int:
    """How many values a step takes from the stack."""
    match step:
        case Load() | Push():
            return 0
        case Attribute():
            return 1
        case Subscript():
            return 2
        case Section():
            return 3
        case Gather():
            return step.count
        case Invoke():
            return step.count + 1


def _expressions(statement: Statement) -> Iterator[Expression]:
    match statement:
        case Assign() | Evaluate() | Return() | With():
            yield statement.value
        case SetAttribute():
            yield from (statement.target, statement.value)
        case If():
            yield statement.test
        case Loop():
            yield statement.over
