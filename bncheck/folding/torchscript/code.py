"""The text of an archive's code, and edits of it.

Text is found again from what the reader made of it: one statement stands in one line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from bncheck.readers.torchscript.library import MOST_CODE
from bncheck.readers.torchscript.program import (
    Define,
    Function,
    If,
    Loop,
    Statement,
    Unclear,
    With,
)
from bncheck.readers.torchscript.tokens import spans
from bncheck.readers.ziparchive import ZipArchive

WITHOUT_STATEMENT = ("pass", "else:")
MANGLED = re.compile(r"___torch_mangle_(\d+)")
_DEFINITION = re.compile(r"^(?:class|def) (\w+)", re.MULTILINE | re.ASCII)
_METHOD = re.compile(r"^  def (\w+)", re.MULTILINE | re.ASCII)
_OPEN, _CLOSE = "([{", ")]}"


class Span(NamedTuple):
    """A piece of a file of code."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an operator in the text: all of it, and its arguments."""

    span: Span
    arguments: tuple[Span, ...]
    keywords: tuple[str, ...]


@dataclass(slots=True)
class Text:
    """A file of code, and what is to be put in place of pieces of it."""

    content: str
    edits: dict[Span, str] = field(default_factory=dict)

    def edited(self) -> str:
        """The text with all edits made; they do not overlap."""
        pieces, at = [], 0
        for span, new in sorted(self.edits.items()):
            pieces += [self.content[at : span.begin], new]
            at = span.end
        return "".join((*pieces, self.content[at:]))


class Code:
    """The code of an archive, by qualified names of classes."""

    def __init__(self, archive: ZipArchive, root: str) -> None:
        self._archive = archive
        self._root = root
        self.files: dict[str, Text] = {}
        self._indices: dict[tuple[str, str], dict[int, Span]] = {}

    def file_of(self, class_name: str) -> str:
        """The entry in which a class is defined."""
        module = class_name.rpartition(".")[0]
        return f"{self._root}/code/{module.replace('.', '/')}.py"

    def text(self, entry: str) -> Text:
        """A file of code."""
        if entry not in self.files:
            self.files[entry] = Text(self._archive.read(entry, MOST_CODE).decode())
        return self.files[entry]

    def declaration(self, class_name: str, attribute: str) -> Span | None:
        """Where the type of an attribute of a class is written."""
        content = self.text(self.file_of(class_name)).content
        name = re.escape(attribute)
        pattern = re.compile(
            rf'^  (?:{name} : |__annotations__\["{name}"\] = )(.+)$', re.MULTILINE | re.ASCII
        )
        found = pattern.search(content, *self.class_span(class_name))
        return Span(*found.span(1)) if found else None

    def edit(self, class_name: str, span: Span, new: str) -> None:
        """Put something in the place of a piece of the file of a class; what is added adds up."""
        edits = self.text(self.file_of(class_name)).edits
        edits[span] = edits.get(span, "") + new if span.begin == span.end else new

    def class_span(self, class_name: str) -> Span:
        """Where a class is defined in its file."""
        content = self.text(self.file_of(class_name)).content
        return _named(content, Span(0, len(content)), _DEFINITION, class_name.rpartition(".")[2])

    def method_span(self, class_name: str, method: str) -> Span:
        """Where a method of a class is defined in its file."""
        content = self.text(self.file_of(class_name)).content
        return _named(content, self.class_span(class_name), _METHOD, method)

    def line(self, class_name: str, function: Function, statement: Statement) -> Span | None:
        """The line of a statement of a method; None where more than one could be it."""
        key = class_name, function.name
        if key not in self._indices:
            content = self.text(self.file_of(class_name)).content
            lines = [*_lines(content, self.method_span(class_name, function.name))]
            self._indices[key] = _index(lines, [*flat(function.body)])
        return self._indices[key].get(id(statement))

    def call(self, class_name: str, line: Span, operator: str, ordinal: int) -> Call | None:
        """One of the calls of an operator in a line, in the order in which they are made."""
        content = self.text(self.file_of(class_name)).content
        found = [*_calls(content[line.begin : line.end], line.begin, operator)]
        return found[ordinal] if ordinal < len(found) else None


def _named(content: str, within: Span, pattern: re.Pattern[str], name: str) -> Span:
    starts = [*pattern.finditer(content, within.begin, within.end)]
    ends = [*(match.start() for match in starts[1:]), within.end]
    for match, end in zip(starts, ends, strict=True):
        if match[1] == name:
            return Span(match.start(), end)
    raise Unclear(f"the archive has no code for {name!r}")


def _lines(content: str, span: Span) -> Iterator[Span]:
    """The lines of a method that are statements, in order; its signature comes before them."""
    at = content.index(":\n", span.begin, span.end) + 2
    while at < span.end:
        end = content.find("\n", at, span.end)
        end = span.end if end < 0 else end
        text = content[at:end].strip()
        if text and text not in WITHOUT_STATEMENT:
            yield Span(at, end)
        at = end + 1


def _index(lines: list[Span], statements: list[Statement]) -> dict[int, Span]:
    """The line of each statement that stands in one line only."""
    if len(lines) != len(statements):
        return {}
    often = Counter(map(id, statements))
    pairs = zip(statements, lines, strict=True)
    return {id(each): line for each, line in pairs if often[id(each)] == 1}


def flat(block: list[Statement]) -> Iterator[Statement]:
    """Statements in the order of their lines."""
    waiting = [*reversed(block)]
    while waiting:
        statement = waiting.pop()
        yield statement
        waiting += reversed(_inside(statement))


def _inside(statement: Statement) -> list[Statement]:
    match statement:
        case If():
            return [*statement.then, *statement.otherwise]
        case Loop() | With():
            return statement.body
        case Define():
            return statement.function.body
    return []


def _calls(line: str, offset: int, operator: str) -> Iterator[Call]:
    """The calls of an operator, inner ones first, as they are made."""
    words = operator.split(".")
    wanted = [word for part in words for word in (part, ".")][:-1]
    tokens = spans(line)
    open_: list[tuple[int, list[int], bool]] = []  # token, its commas, whether it is such a call
    for at, (text, _) in enumerate(tokens):
        if text in _OPEN:
            before = [each for each, _ in tokens[max(at - len(wanted), 0) : at]]
            whole = at == len(wanted) or tokens[at - len(wanted) - 1][0] != "."
            open_.append((at, [], text == "(" and before == wanted and whole))
        elif text == "," and open_:
            open_[-1][1].append(at)
        elif text in _CLOSE and open_:
            begin, commas, is_call = open_.pop()
            if is_call:
                yield _call(line, tokens, offset, begin - len(wanted), [begin, *commas, at])


def _call(
    line: str, tokens: list[tuple[str, int]], offset: int, first: int, marks: list[int]
) -> Call:
    arguments, keywords = [], []
    for mark, next_mark in pairwise(marks):
        at = mark + 1
        if at == next_mark:  # a comma at the end
            continue
        keyword = ""
        if at + 1 < next_mark and tokens[at + 1][0] == "=":
            keyword, at = tokens[at][0], at + 2
        last = tokens[next_mark - 1]
        arguments.append(Span(offset + tokens[at][1], offset + last[1] + len(last[0])))
        keywords.append(keyword)
    end = tokens[marks[-1]][1] + 1
    return Call(Span(offset + tokens[first][1], offset + end), tuple(arguments), tuple(keywords))
