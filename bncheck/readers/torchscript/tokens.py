"""Splits a line of TorchScript code into tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from bncheck.readers.torchscript.program import Unclear

LONGEST_NUMBER = 64  # characters; the longest that is printed has 24
LONGEST_NAME = 500  # characters
_TOKEN = re.compile(
    r"""
      [A-Za-z_][A-Za-z0-9_]*
    | -?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?j?|(?:inf|nan)j?\b)
    | "(?:[^"\\\n]++|\\.)*+"?
    | ->
    | \S
    """,
    re.VERBOSE | re.ASCII,
)
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"')
_MARKS = frozenset("()[]{},:.=") | {"->"}


class Kind(Enum):
    """What a token is."""

    NAME = "name"
    NUMBER = "number"
    STRING = "string"
    MARK = "mark"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a number, a quoted string or a mark, as it is written."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return repr(self.text[:40]) if self.text else "the end of the line"


END = Token(Kind.END, "")


class Tokenizer:
    """Makes one Token of each text, however often it comes."""

    def __init__(self) -> None:
        self._known: dict[str, Token] = {}

    def tokens(self, line: str) -> list[Token]:
        """The tokens of a line, and END. Raises Unclear where something else stands."""
        found = [self._known.get(text) or self._new(text) for text in _TOKEN.findall(line)]
        found.append(END)
        return found

    def _new(self, text: str) -> Token:
        token = self._known[text] = Token(_kind(text), text)
        return token


def spans(line: str) -> list[tuple[str, int]]:
    """The texts of the tokens of a line, and where each begins."""
    return [(found[0], found.start()) for found in _TOKEN.finditer(line)]


def _kind(text: str) -> Kind:
    if text in _MARKS:
        return Kind.MARK
    if _STRING.fullmatch(text):
        return Kind.STRING
    if text.isascii() and text.isidentifier() and len(text) <= LONGEST_NAME:
        return Kind.NAME
    if text[0] in "-0123456789" and text != "-":
        return Kind.NUMBER
    raise Unclear(f"code holds {text[:40]!r}, which is no code")


def number(text: str) -> int | float | complex:
    """The value of a NUMBER, or of one of the words inf, nan, infj and nanj."""
    if len(text) > LONGEST_NUMBER:
        raise Unclear("code holds a number that is too long for any")
    if text.endswith("j"):
        return complex(0, float(text[:-1]))
    return int(text) if text.lstrip("-").isdigit() else float(text)


def string(text: str) -> str:
    """The value of a STRING: C++ quotes as Python does, and other bytes as three octal digits."""
    return _ESCAPE.sub(_unescaped, text[1:-1])


_ESCAPE = re.compile(r"\\([0-7]{3}|.)", re.DOTALL)
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def _unescaped(found: re.Match[str]) -> str:
    escaped = found[1]
    return chr(int(escaped, 8)) if len(escaped) == 3 else _LETTERS.get(escaped, escaped)
