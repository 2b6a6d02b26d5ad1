"""What TorchScript code is parsed into.

An expression is a postfix tuple of steps, so that neither parsing nor evaluating it recurses: each
step takes its operands from a stack and puts its result there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from bncheck.errors import BncheckError


class Unclear(BncheckError):
    """Code that bncheck does not follow; the layers can still be read from the objects."""


@dataclass(slots=True, eq=False)
class Load:
    """Put the value of a name."""

    name: str


@dataclass(slots=True, eq=False)
class Push:
    """Put a constant."""

    value: int | float | complex | str | bool | None


@dataclass(slots=True, eq=False)
class Attribute:
    """Take an object, put one of its attributes."""

    name: str


@dataclass(slots=True, eq=False)
class Invoke:
    """Take what is called and its arguments, the last of them named; put the result."""

    count: int
    keywords: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Subscript:
    """Take a container and a key, put the item."""


@dataclass(slots=True, eq=False)
class Section:
    """Take a tuple, the first index and the one behind the last, put what is between them."""


@dataclass(slots=True, eq=False)
class Gather:
    """Take ``count`` items (of a dictionary: keys and values in turn), put a container of them."""

    container: type[list[object]] | type[tuple[object, ...]] | type[dict[object, object]]
    count: int


Step: TypeAlias = "Load | Push | Attribute | Invoke | Subscript | Section | Gather"
Expression: TypeAlias = "tuple[Step, ...]"


@dataclass(slots=True, eq=False)
class Assign:
    """Names that get a value, or (``unpack``) the items of one."""

    names: tuple[str, ...]
    value: Expression
    unpack: bool = False


@dataclass(slots=True, eq=False)
class SetAttribute:
    """``target.name = value``."""

    target: Expression
    name: str
    value: Expression


@dataclass(slots=True, eq=False)
class Evaluate:
    """An expression for its effect alone."""

    value: Expression


@dataclass(slots=True, eq=False)
class Return:
    """The last statement of a function."""

    value: Expression


@dataclass(slots=True, eq=False)
class If:
    """Two branches."""

    test: Expression
    then: list[Statement]
    otherwise: list[Statement]


@dataclass(slots=True, eq=False)
class Loop:
    """A for loop over a range, or (``name`` is None) a while loop."""

    name: str | None
    over: Expression
    body: list[Statement]


@dataclass(slots=True, eq=False)
class With:
    """A context; its body runs once."""

    value: Expression
    name: str | None
    body: list[Statement]


@dataclass(slots=True, eq=False)
class Define:
    """A function without arguments inside another: what a fork runs."""

    function: Function


Statement: TypeAlias = "Assign | SetAttribute | Evaluate | Return | If | Loop | With | Define"


@dataclass(slots=True, eq=False)
class Parameter:
    """A formal parameter; ``annotation`` is its type as it is written, without blanks."""

    name: str
    annotation: str
    default: Expression | None


@dataclass(slots=True, eq=False)
class Function:
    """A function or method."""

    name: str
    parameters: tuple[Parameter, ...]
    body: list[Statement]
