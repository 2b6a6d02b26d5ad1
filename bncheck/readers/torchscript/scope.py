"""Names that code sees."""

from __future__ import annotations

from dataclasses import dataclass, field

from bncheck.readers.torchscript.tape import Owner
from bncheck.readers.torchscript.values import Named, Runtime


@dataclass(slots=True, eq=False)
class Scope:
    """The names of a call, or of one branch within it."""

    owner: Owner | None
    outer: Scope | None = None
    names: dict[str, Runtime] = field(default_factory=dict)

    def inner(self) -> Scope:
        """A scope for a branch, whose names do not show outside."""
        return Scope(self.owner, self)

    def knows(self, name: str) -> bool:
        """Whether a name has a value here."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return True
            scope = scope.outer
        return False

    def find(self, name: str) -> Runtime:
        """The value of a name; of one that has none, the name itself."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return Named(name)
