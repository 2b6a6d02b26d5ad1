"""The code of an archive by qualified name: ``code/__torch__/a/b.py`` defines ``__torch__.a.b.C``.

A name says which file of the archive to look into, and nothing else is looked into. Bodies of
functions are parsed when they are first called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bncheck.readers.torchscript.functions import MANGLING, Parser
from bncheck.readers.torchscript.program import Function, Unclear
from bncheck.readers.ziparchive import ZipArchive

ROOT = "__torch__"
MOST_CODE = 8 * 2**20  # characters of all files together
MOST_DEFINITIONS = 30_000
PICKLING = ("__getstate__", "__setstate__")
_DEFINITION = re.compile(r"^(?:class|def) (\w+)", re.MULTILINE | re.ASCII)
_METHOD = re.compile(r"^  def (\w+)", re.MULTILINE | re.ASCII)
_NAMES = re.compile(r"^  (__\w+__) = (\[.*)$", re.MULTILINE | re.ASCII)
_CONSTANT = re.compile(r"^  (\w+) : Final\[.*?\] = (.+)$", re.MULTILINE | re.ASCII)
_BASE = re.compile(r"class \w+\((\w+)\):", re.ASCII)


def original(name: str) -> str:
    """The name that a class had in Python: without the root, and what tells apart its variants."""
    return MANGLING.sub("", name.removeprefix(f"{ROOT}.")).rstrip(".")


@dataclass(frozen=True, slots=True, eq=False)
class ScriptClass:
    """A class as the archive's code declares it.

    ``base`` is "Module", "NamedTuple", "Enum", "" and the like; ``constants`` are its Final values,
    without those that are no plain literals. ``lists`` are lines such as ``__parameters__``.
    ``reads_mode``: its methods look at ``training``, so that eval() means something to them.
    Tracing leaves neither that nor constants.
    """

    name: str
    base: str = ""
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)
    methods: Mapping[str, str] = field(default_factory=dict)
    reads_mode: bool = False


class Library:
    """What the code of an archive defines; every method raises Unclear for what it lacks."""

    def __init__(self, archive: ZipArchive, root: str) -> None:
        self._archive = archive
        self._root = root
        self._left = MOST_CODE
        self._definitions_left = MOST_DEFINITIONS
        self._files: dict[str, Mapping[str, str]] = {}
        self._classes: dict[str, ScriptClass | None] = {}
        self._functions: dict[str, Function] = {}
        self._lists: dict[str, tuple[str, ...]] = {}
        self._parser = Parser()

    def class_named(self, name: str) -> ScriptClass | None:
        """A class; None for one that is not defined here, as those of C++."""
        if name not in self._classes:
            text = self._definition(name)
            is_class = text is not None and text.startswith("class ")
            self._classes[name] = self._class(name, text or "") if is_class else None
        return self._classes[name]

    def method(self, owner: ScriptClass, name: str) -> Function | None:
        """A method of a class, if it has it."""
        text = owner.methods.get(name)
        return None if text is None else self._function(f"{owner.name}.{name}", text)

    def function(self, name: str) -> Function | None:
        """A function outside classes."""
        text = self._definition(name)
        is_function = text is not None and text.startswith("def ")
        return self._function(name, text or "") if is_function else None

    def _function(self, name: str, text: str) -> Function:
        if name not in self._functions:
            self._functions[name] = self._parser.function(text)
        return self._functions[name]

    def _definition(self, name: str) -> str | None:
        module, _, short = name.rpartition(".")
        return self._file(module).get(short)

    def _file(self, module: str) -> Mapping[str, str]:
        if module not in self._files:
            path = f"{self._root}/code/{module.replace('.', '/')}.py"
            known = self._archive.has(path)
            self._files[module] = self._definitions(self._text(path), _DEFINITION) if known else {}
        return self._files[module]

    def _text(self, path: str) -> str:
        if self._archive.entries[path].size > self._left:
            raise Unclear(f"the archive holds over {MOST_CODE} characters of code")
        data = self._archive.read(path, self._left)
        self._left -= len(data)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise Unclear("the archive holds code that is no text") from error

    def _definitions(self, text: str, pattern: re.Pattern[str]) -> dict[str, str]:
        """Each definition from its own line to the next."""
        found: dict[str, str] = {}
        name, begin = "", 0
        for match in pattern.finditer(text):
            _add(found, name, text[begin : match.start()])
            name, begin = match[1], match.start()
            self._definitions_left -= 1
            if self._definitions_left < 0:
                raise Unclear(f"the code defines over {MOST_DEFINITIONS} classes and functions")
        _add(found, name, text[begin:])
        return found

    def _class(self, name: str, text: str) -> ScriptClass:
        first = _METHOD.search(text)
        declared = text[: first.start()] if first else text
        methods = self._definitions(text, _METHOD)
        own = (body for short, body in methods.items() if short not in PICKLING)
        return ScriptClass(
            name=name,
            base=found[1] if (found := _BASE.match(text)) else "",
            lists={match[1]: self._strings(match[2]) for match in _NAMES.finditer(declared)},
            constants=dict(self._constants(declared)),
            methods=methods,
            reads_mode=any(".training" in body for body in own),
        )

    def _strings(self, text: str) -> tuple[str, ...]:
        """The strings of a list; most classes have the same lists."""
        if text not in self._lists:
            items = self._parser.literal(text)
            several = items if isinstance(items, list) else ()
            self._lists[text] = tuple(item for item in several if isinstance(item, str))
        return self._lists[text]

    def _constants(self, declared: str) -> Iterator[tuple[str, object]]:
        for match in _CONSTANT.finditer(declared):
            try:
                yield match[1], self._parser.literal(match[2])
            except Unclear:  # a tensor, an enum: nothing that a layer is described by
                continue


def _add(found: dict[str, str], name: str, text: str) -> None:
    if name in found:
        raise Unclear(f"the code defines {name!r} twice")
    if name:
        found[name] = text
