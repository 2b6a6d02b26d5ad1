"""Follows TorchScript code and keeps in mind which statement of which call did what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bncheck.readers.torchscript.follow import Follower
from bncheck.readers.torchscript.objects import ScriptObject
from bncheck.readers.torchscript.program import Function, Statement
from bncheck.readers.torchscript.routines import Routine
from bncheck.readers.torchscript.scope import Scope
from bncheck.readers.torchscript.tape import Record
from bncheck.readers.torchscript.values import Data, Runtime, Stored
from bncheck.readers.torchscript.world import World


@dataclass(eq=False, slots=True)
class Frame:
    """One call of a function: the object whose method it is, and the values that went in and out.

    Values are names of tensors, "" for anything else.
    """

    function: Function
    target: ScriptObject | None
    caller: Frame | None
    given: tuple[str, ...]
    result: str = ""

    def outward(self) -> Iterator[Frame]:
        """This call, then the one that it is in, and so on."""
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.caller


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Where an operator is called: a statement of a call, and how many such come before it."""

    frame: Frame
    statement: Statement
    ordinal: int


class Tracer(Follower):
    """A follower that knows the site of every record."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.frames: list[Frame] = []
        self.sites: dict[Record, Site] = {}
        self._stack: list[Frame] = []

    def call(self, function: Function, arguments: Sequence[Runtime], scope: Scope) -> Routine:
        """See Follower."""
        first = arguments[0] if arguments else None
        frame = Frame(
            function,
            first if isinstance(first, ScriptObject) else None,
            self._stack[-1] if self._stack else None,
            tuple(map(self._name, arguments[1:])),
        )
        self.frames.append(frame)
        self._stack.append(frame)
        try:
            result = yield super().call(function, arguments, scope)
        finally:
            self._stack.pop()
        frame.result = self._name(result)
        return result

    def _name(self, value: Runtime) -> str:
        return self.world.tape.latest(value.name) if isinstance(value, Data | Stored) else ""

    def _statement(self, statement: Statement, scope: Scope) -> Routine:
        records, before = self.world.tape.records, len(self.world.tape.records)
        result = yield super()._statement(statement, scope)
        if self._stack:
            self._note(records[before:], statement)
        return result

    def _note(self, records: Sequence[Record], statement: Statement) -> None:
        """What inner statements did not do was done by this one."""
        own = [record for record in records if record not in self.sites]
        for at, record in enumerate(own):
            ordinal = sum(each.op == record.op for each in own[:at])
            self.sites[record] = Site(self._stack[-1], statement, ordinal)
