"""Parses one line of a TorchScript function: a statement, or the head of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bncheck.readers.torchscript.expressions import expression
from bncheck.readers.torchscript.program import (
    Assign,
    Define,
    Evaluate,
    Expression,
    Function,
    If,
    Loop,
    Parameter,
    Return,
    SetAttribute,
    Statement,
    Unclear,
    With,
)
from bncheck.readers.torchscript.tokens import END, Kind, Token

_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")

Line = list[Token]  # END is the last
Block = list[Statement]


def simple(line: Line) -> Statement:
    """A statement that opens no block. Raises Unclear where the line is none."""
    if line[0].text == "return":
        return Return(expression(line[1:]))
    target, *value = _split(line[:-1], "=")
    if not value:
        return Evaluate(expression(line))
    if len(value) > 1:
        raise Unclear("an assignment has several values")
    return _assignment(next(_split(target, ":")), value[0])


def _assignment(target: Line, value: Line) -> Statement:
    if len(target) > 2 and target[-2].text == ".":
        return SetAttribute(_expression(target[:-2]), target[-1].text, _expression(value))
    names = [*_split(target, ",")]
    unpack = len(names) > 1
    if unpack and not names[-1]:
        names.pop()  # "a, = x" unpacks as well
    if not all(len(name) == 1 and name[0].kind is Kind.NAME for name in names):
        raise Unclear("an assignment has an unknown target")
    return Assign(tuple(name[0].text for name in names), _one_or_many(value), unpack)


def _one_or_many(line: Line) -> Expression:
    """A value, or several that are assigned to as many names."""
    if len([*_split(line, ",")]) == 1:
        return _expression(line)
    return _expression([Token(Kind.MARK, "("), *line, Token(Kind.MARK, ")")])


def _expression(line: Sequence[Token]) -> Expression:
    return expression([*line, END])


def opens_block(line: Line) -> bool:
    """Whether a line begins with a word that opens a block, and is not about a name like it."""
    return line[0].text in _COMPOUND and line[1].text not in ("=", ":", ".", ",")


def compound(line: Line) -> tuple[Statement, Block]:
    """A statement and its first block, still empty. Raises Unclear where the line is none."""
    return _COMPOUND[line[0].text](header(line))


def header(line: Line) -> Line:
    """A line without the colon at its end."""
    if len(line) < 3 or line[-2].text != ":":
        raise Unclear("a block does not begin with a colon")
    return line[:-2]


def _if(line: Line) -> tuple[Statement, Block]:
    statement = If(_expression(line[1:]), [], [])
    return statement, statement.then


def _while(line: Line) -> tuple[Statement, Block]:
    statement = Loop(None, _expression(line[1:]), [])
    return statement, statement.body


def _for(line: Line) -> tuple[Statement, Block]:
    """``for i in range(n)``: nothing else is looped over."""
    if [token.text for token in line[2:5]] != ["in", "range", "("] or line[-1].text != ")":
        raise Unclear("a loop is over something else than a range")
    statement = Loop(line[1].text, _expression(line[5:-1]), [])
    return statement, statement.body


def _with(line: Line) -> tuple[Statement, Block]:
    named = len(line) > 3 and line[-2].text == "as"
    value = line[1:-2] if named else line[1:]
    statement = With(_expression(value), line[-1].text if named else None, [])
    return statement, statement.body


def _define(line: Line) -> tuple[Statement, Block]:
    name, parameters = signature([*line, END])
    statement = Define(Function(name, parameters, []))
    return statement, statement.function.body


_COMPOUND: dict[str, Callable[[Line], tuple[Statement, Block]]] = {
    "if": _if,
    "while": _while,
    "for": _for,
    "with": _with,
    "def": _define,
}


def signature(line: Line) -> tuple[str, tuple[Parameter, ...]]:
    """The name and parameters of a function, from the tokens before its body."""
    if len(line) < 5 or [line[0].text, line[2].text] != ["def", "("]:
        raise Unclear("a function does not begin as one")
    parts = _split(line[3:-1], ",", end=")")
    return line[1].text, tuple(_parameter(part) for part in parts if part)


def _parameter(line: Line) -> Parameter:
    typed, *default = _split(line, "=")
    if not typed or typed[0].kind is not Kind.NAME or len(default) > 1:
        raise Unclear("a function has an unknown parameter")
    annotation = "".join(token.text for token in typed[2:])
    return Parameter(typed[0].text, annotation, _expression(default[0]) if default else None)


def _split(line: Sequence[Token], mark: str, end: str = "") -> Iterator[Line]:
    """The parts between marks that stand in no bracket, up to ``end``."""
    depth, part = 0, Line()
    for token in line:
        if depth == 0 and token.text == end:
            break
        if depth == 0 and token.text == mark:
            yield part
            part = []
            continue
        depth += (token.text in _OPENING) - (token.text in _CLOSING)
        part.append(token)
    yield part
