"""How facts are kept: typed fields that are known, or that say why they are not.

A check reads a fact as a plain attribute. Where the artefact does not hold it, the read raises
UnknownFact, and the engine reports the rule as *not assessed* with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar, cast, overload

from bncheck.errors import BncheckError

T = TypeVar("T")


class Evidence(StrEnum):
    """What an artefact can testify to."""

    TENSORS = "tensors"
    FLAGS = "flags"  # module attributes: training, eps, momentum
    GRAPH = "graph"  # order, arguments, shapes
    METADATA = "metadata"  # hyper-parameters, optimizer
    DATA = "data"
    SECOND_FILE = "second-file"


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact that the artefact does not hold: what, why, and what to give instead."""

    what: str
    why: str
    instead: str = ""

    @property
    def reason(self) -> str:
        """One sentence for a report."""
        return f"{self.what}: {self.why}" + (f"; {self.instead}" if self.instead else "")


class UnknownFact(BncheckError):
    """A fact was read that the artefact does not hold."""

    def __init__(self, unknown: Unknown) -> None:
        super().__init__(unknown.reason)
        self.unknown = unknown


class Fact(Generic[T]):
    """A typed attribute of Facts: its name in reports, and which evidence may carry it.

    ``instead`` says what to give where a file has no such thing at all.
    """

    def __init__(self, what: str, *evidence: Evidence, instead: str = "") -> None:
        self.what = what
        self.evidence = frozenset(evidence)
        self.instead = instead
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, holder: None, owner: type) -> Fact[T]: ...
    @overload
    def __get__(self, holder: Facts, owner: type) -> T: ...
    def __get__(self, holder: Facts | None, owner: type) -> Fact[T] | T:
        if holder is None:
            return self
        try:
            value = holder.facts[self.name]
        except KeyError:
            raise UnknownFact(Unknown(self.what, "not in this file", self.instead)) from None
        if isinstance(value, Unknown):
            raise UnknownFact(value)
        return cast(T, value)


class Facts:
    """Something that facts are known about."""

    facts: Mapping[str, object]

    def knows(self, fact: Fact[T]) -> bool:
        """Whether a fact is known here: ``layer.knows(NormLayer.eps)``."""
        return not isinstance(self.facts.get(fact.name, _MISSING), Unknown)

    def get(self, fact: Fact[T], default: T) -> T:
        """A fact, or the default where it is unknown."""
        return cast(T, self.facts[fact.name]) if self.knows(fact) else default


_MISSING = Unknown("fact", "not in this file")


def unknown(facts: Iterable[Fact[Any]], why: str, instead: str = "") -> dict[str, Unknown]:
    """One reason for many facts, to be merged below the known ones."""
    return {fact.name: Unknown(fact.what, why, instead) for fact in facts}
