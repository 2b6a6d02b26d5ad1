"""Modules that go: in their place comes one whose forward gives back what it is given."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property

from bncheck.folding.archives.zipped import Made
from bncheck.folding.reasons import Blocked, Reason
from bncheck.folding.torchscript.code import MANGLED, Code, Span
from bncheck.folding.torchscript.file import ScriptFile
from bncheck.folding.torchscript.pickles import Pickle
from bncheck.folding.torchscript.trace import Frame
from bncheck.folding.torchscript.uses import foreign_reads
from bncheck.graph import Node
from bncheck.readers.torchscript.objects import ScriptObject

HOME = "__torch__.torch.nn.modules.linear"  # where torch.nn.Identity is defined
TRAINING = "training"
NOTHING: frozenset[str] = frozenset()
IDENTITY = """class Identity(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
"""
FORWARD = """  def {method}(self: {name},
    input: Tensor) -> Tensor:
    return input
"""


class Modules:
    """Turns modules into identities, each of which was called for nodes that go."""

    def __init__(self, file: ScriptFile, code: Code, data: Pickle) -> None:
        self._file = file
        self._code = code
        self._data = data
        self._methods: set[str] = set()

    def turn(self, frames: Mapping[Frame, Node]) -> None:
        """Turn the modules of these calls. Raises Blocked for a node of one that is used more."""
        nodes = {frame.target: node for frame, node in frames.items() if frame.target}
        for target, node in nodes.items():
            if any(frame not in frames for frame in self._calls(target)):
                raise Blocked(Reason.SEVERAL_CALLS, node)
        gone = frozenset(nodes)
        self._methods |= {frame.function.name for frame in frames}
        left = {*self._methods, TRAINING}
        for target, node in nodes.items():
            if not self._foreign_reads.get(target, NOTHING) <= left:
                raise Blocked(Reason.SHARED, node)
        for target, node in nodes.items():
            if not self._retype(target, gone):
                raise Blocked(Reason.SEVERAL_CALLS, node)
        for target in nodes:
            held = {name: value for name, value in target.held.items() if name == TRAINING}
            self._data.turn(self._data.object(self._file.path(target) or ""), self.name, held)
        self._drop_definitions(gone)

    def added(self) -> Iterator[Made]:
        """The file of code that identities need."""
        methods = (FORWARD.format(method=each, name=self.name) for each in sorted(self._methods))
        text = "".join((IDENTITY, *methods)).encode()
        if self._methods:
            yield Made(self._code.file_of(self.name), len(text), lambda: text)

    @cached_property
    def name(self) -> str:
        """The class of the identities."""
        numbers = [int(n) for entry in self._file.archive.entries for n in MANGLED.findall(entry)]
        return f"{HOME}.___torch_mangle_{max(numbers, default=0) + 1}.Identity"

    def _calls(self, target: ScriptObject) -> Iterator[Frame]:
        """The calls of an object from outside."""
        for frame in self._file.tracer.frames:
            callers = frame.caller.outward() if frame.caller else ()
            if frame.target is target and not any(each.target is target for each in callers):
                yield frame

    def _retype(self, target: ScriptObject, gone: frozenset[ScriptObject]) -> bool:
        """Say in the classes of its parents what an object is; whether all of them can say so."""
        for parent in self._objects:
            for name, child in parent.children.items():
                if child is target and not self._retype_in(parent.class_name, name, gone):
                    return False
        return not self._is_named_elsewhere(target.class_name)

    def _retype_in(self, class_name: str, name: str, gone: frozenset[ScriptObject]) -> bool:
        others = (each.children.get(name) for each in self._by_class[class_name])
        span = self._code.declaration(class_name, name)
        if span is None or any(other not in gone for other in others):
            return False
        self._code.edit(class_name, span, self.name)
        return True

    def _is_named_elsewhere(self, class_name: str) -> bool:
        """Whether code needs something to be of a class, beside declarations of attributes."""
        pattern = re.compile(re.escape(class_name) + r"(?![\w.])", re.ASCII)
        own, definition = self._code.file_of(class_name), self._code.class_span(class_name)
        for entry in self._entries:
            for match in pattern.finditer(self._code.text(entry).content):
                is_own = entry == own and definition.begin <= match.start() < definition.end
                if not is_own and (entry, Span(*match.span())) not in self._declarations:
                    return True
        return False

    @cached_property
    def _entries(self) -> list[str]:
        """The files of code."""
        folder = f"{self._file.root}/code/"
        names = self._file.archive.entries
        return [name for name in names if name.startswith(folder) and name.endswith(".py")]

    @cached_property
    def _declarations(self) -> frozenset[tuple[str, Span | None]]:
        """Where classes say of which class the objects in their attributes are."""
        places = {(each.class_name, name) for each in self._objects for name in each.children}
        return frozenset(
            (self._code.file_of(owner), self._code.declaration(owner, name))
            for owner, name in places
        )

    @cached_property
    def _objects(self) -> list[ScriptObject]:
        return [*dict.fromkeys(self._file.modules.values())]

    @cached_property
    def _foreign_reads(self) -> Mapping[ScriptObject, AbstractSet[str]]:
        return foreign_reads(self._file.tracer.world.library, self._objects)

    @cached_property
    def _by_class(self) -> Mapping[str, list[ScriptObject]]:
        found: dict[str, list[ScriptObject]] = defaultdict(list)
        for each in self._objects:
            found[each.class_name].append(each)
        return found

    def _drop_definitions(self, gone: frozenset[ScriptObject]) -> None:
        """Forget classes of which no object is left."""
        left = {each.class_name for each in self._objects if each not in gone}
        for name in {each.class_name for each in gone} - left:
            self._code.edit(name, self._code.class_span(name), "")
