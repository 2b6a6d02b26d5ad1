"""Parses functions of TorchScript code: a signature, then one statement a line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bncheck.readers.torchscript.expressions import expression, literal
from bncheck.readers.torchscript.program import Function, If, Unclear
from bncheck.readers.torchscript.statements import (
    Block,
    Line,
    compound,
    header,
    opens_block,
    signature,
    simple,
)
from bncheck.readers.torchscript.tokens import Tokenizer

DEEPEST = 100  # blocks in blocks
LONGEST_LINE = 2**18  # characters
MOST_TOKENS = 200_000  # of lines that differ
INDENT = "  "
MANGLING = re.compile(r"___torch_mangle_\d+\.?", re.ASCII)  # what tells classes of one name apart


@dataclass(slots=True)
class _Open:
    """A block that is being filled, and how deep its lines are indented."""

    level: int
    block: Block


class Parser:
    """Parses functions under one budget; what comes again is parsed once.

    A traced model has a class of its own for each of its modules, and most of these differ in the
    numbers in their names alone.
    """

    def __init__(self) -> None:
        self._tokens_left = MOST_TOKENS
        self._tokenizer = Tokenizer()
        self._functions: dict[str, Function] = {}
        self._statements: dict[str, Block] = {}

    def function(self, text: str) -> Function:
        """A function from its ``def`` on. Raises Unclear where it is none, or over budget."""
        head, _, body = text.partition(":\n")
        key = f"{MANGLING.sub('', head)}:\n{body}"
        if key not in self._functions:
            name, parameters = signature(self._tokens(key[: -len(body) or None]))
            self._functions[key] = Function(name, parameters, self._body(body, _level(text)))
        return self._functions[key]

    def literal(self, text: str) -> object:
        """The value of an expression in which nothing is named or called."""
        return literal(expression(self._tokens(text)))

    def _tokens(self, line: str) -> Line:
        if len(line) > LONGEST_LINE:
            raise Unclear(f"code has a line of over {LONGEST_LINE} characters")
        found = self._tokenizer.tokens(line)
        self._tokens_left -= len(found)
        if self._tokens_left < 0:
            raise Unclear(f"code has over {MOST_TOKENS} tokens")
        return found

    def _body(self, body: str, level: int) -> Block:
        blocks = [_Open(level + 1, [])]
        for text in body.split("\n"):
            if not text or text.isspace():
                continue
            depth = _level(text)
            while depth < blocks[-1].level and len(blocks) > 1:
                blocks.pop()
            if depth != blocks[-1].level:
                raise Unclear("code is indented in an unknown way")
            opened = self._add(text.strip(), blocks[-1].block)
            if opened is not None:
                blocks.append(_Open(depth + 1, opened))
            if len(blocks) > DEEPEST:
                raise Unclear(f"code nests blocks over {DEEPEST} deep")
        return blocks[0].block

    def _add(self, text: str, block: Block) -> Block | None:
        """Add a line's statement, and return the block that it opens, if it does."""
        if text in self._statements:
            block += self._statements[text]
            return None
        line = self._tokens(text)
        if line[0].text == "else":
            return _otherwise(line, block)
        if opens_block(line):
            statement, opened = compound(line)
            block.append(statement)
            return opened
        self._statements[text] = [] if text == "pass" else [simple(line)]
        block += self._statements[text]
        return None


def _level(line: str) -> int:
    return (len(line) - len(line.lstrip(" "))) // len(INDENT)


def _otherwise(line: Line, block: Block) -> Block:
    before = block[-1] if block else None
    if not isinstance(before, If) or before.otherwise or len(header(line)) != 1:
        raise Unclear("code has an else without an if")
    return before.otherwise
