"""Parses the expressions of TorchScript code.

They have no operators: names, constants, attributes, calls, subscripts and displays, in brackets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from bncheck.readers.torchscript.program import (
    Attribute,
    Expression,
    Gather,
    Invoke,
    Load,
    Push,
    Section,
    Step,
    Subscript,
    Unclear,
)
from bncheck.readers.torchscript.tokens import Kind, Token, number, string

DEEPEST = 200  # brackets in brackets; PyTorch breaks up what it prints long before
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_WORDS = {"True": True, "False": False, "None": None}
_NUMBERS = ("inf", "nan", "infj", "nanj")


def expression(tokens: Iterable[Token]) -> Expression:
    """The steps of an expression, which ends with END. Raises Unclear where it is none."""
    return _Parser(tokens).parse()


def literal(steps: Expression) -> object:
    """The value of constants, lists and tuples. Raises Unclear where there is more."""
    stack: list[object] = []
    for step in steps:
        if isinstance(step, Push):
            stack.append(step.value)
        elif isinstance(step, Gather) and step.container is not dict:
            begin = len(stack) - step.count
            items = stack[begin:]
            stack[begin:] = [items if step.container is list else tuple(items)]
        else:
            raise Unclear("a constant is computed")
    return stack[0]


@dataclass(slots=True, eq=False)
class _Bracket:
    """An open bracket: a display or group, or (``trails``) a call or subscript.

    ``named``: the item that is being read is an argument with a name.
    """

    opening: str
    trails: bool
    items: int = 0
    commas: int = 0
    colons: int = 0
    named: bool = False
    keywords: dict[str, None] = field(default_factory=dict)


class _Parser:
    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = [*tokens]
        self._position = -1
        self._brackets: list[_Bracket] = [_Bracket("", trails=False)]
        self._wants_operand = True
        self._steps: list[Step] = []

    def parse(self) -> Expression:
        while (token := self._next()).kind is not Kind.END:
            if self._wants_operand:
                self._operand(token)
            else:
                self._trailer(token)
        if len(self._brackets) > 1 or self._wants_operand:
            raise Unclear("an expression ends too early")
        return tuple(self._steps)

    def _next(self) -> Token:
        self._position += 1
        return self._tokens[self._position]

    def _peek(self) -> Token:
        return self._tokens[self._position + 1]

    def _operand(self, token: Token) -> None:
        inside = self._brackets[-1]
        if token.text in _CLOSING:
            self._open(_Bracket(token.text, trails=False))
        elif token.kind is Kind.MARK:
            if token.text != _CLOSING.get(inside.opening) or not _may_close_here(inside):
                raise _unexpected(token)
            self._close()
        elif _is_call(inside) and self._peek().text == "=" and token.kind is Kind.NAME:
            self._keyword(inside, token)
        else:
            self._steps.append(_leaf(token))
            self._wants_operand = False

    def _keyword(self, call: _Bracket, token: Token) -> None:
        if call.named or token.text in call.keywords:
            raise _unexpected(token)
        call.named = True
        call.keywords[token.text] = None
        self._next()

    def _trailer(self, token: Token) -> None:
        inside = self._brackets[-1]
        if token.text == "." and self._peek().kind is Kind.NAME:
            self._steps.append(Attribute(self._next().text))
        elif token.text in ("(", "["):
            self._open(_Bracket(token.text, trails=True))
        elif token.text == "," and inside.opening:
            self._end_item(inside)
            inside.commas += 1
            self._wants_operand = True
        elif token.text == ":" and _may_part(inside):
            inside.colons += 1
            self._wants_operand = True
        elif token.text == _CLOSING.get(inside.opening):
            self._end_item(inside)
            self._close()
        else:
            raise _unexpected(token)

    def _end_item(self, inside: _Bracket) -> None:
        inside.items += 1
        if inside.opening == "{" and inside.colons != inside.items:
            raise Unclear("a dictionary has a key without a value")
        if inside.keywords and not inside.named:
            raise Unclear("a call has an argument without a name after one with a name")
        inside.named = False

    def _open(self, bracket: _Bracket) -> None:
        if len(self._brackets) > DEEPEST:
            raise Unclear(f"code nests brackets over {DEEPEST} deep")
        self._brackets.append(bracket)
        self._wants_operand = True

    def _close(self) -> None:
        self._steps.extend(_result(self._brackets.pop()))
        self._wants_operand = False


def _is_call(bracket: _Bracket) -> bool:
    return bracket.opening == "(" and bracket.trails


def _may_close_here(bracket: _Bracket) -> bool:
    """Whether a bracket may end without another item: an empty one, or after a last comma."""
    is_empty_subscript = bracket.opening == "[" and bracket.trails and not bracket.items
    return bracket.colons <= bracket.items and not bracket.named and not is_empty_subscript


def _may_part(bracket: _Bracket) -> bool:
    """Whether a colon may stand here: after a key, or in the first item of a subscript."""
    if bracket.opening == "{":
        return bracket.colons == bracket.items
    return bracket.opening == "[" and bracket.trails and not bracket.colons and not bracket.items


def _leaf(token: Token) -> Step:
    if token.kind is Kind.NUMBER:
        return Push(number(token.text))
    if token.kind is Kind.STRING:
        return Push(string(token.text))
    if token.text in _WORDS:
        return Push(_WORDS[token.text])
    if token.text in _NUMBERS:
        return Push(number(token.text))
    return Load(token.text)


def _result(bracket: _Bracket) -> tuple[Step, ...]:
    """What a bracket makes of its items once it is closed."""
    items = bracket.items
    if _is_call(bracket):
        return (Invoke(items, tuple(bracket.keywords)),)
    if bracket.opening == "(":
        is_group = items == 1 and not bracket.commas
        return () if is_group else (Gather(tuple, items),)
    if bracket.opening == "{":
        return (Gather(dict, 2 * items),)
    if not bracket.trails:
        return (Gather(list, items),)
    if bracket.colons:
        if bracket.commas:
            raise Unclear("a section has a comma in it")
        return (Section(),)
    return (Subscript(),) if items == 1 else (Gather(tuple, items), Subscript())


def _unexpected(token: Token) -> Unclear:
    return Unclear(f"code has {token} where it cannot stand")
