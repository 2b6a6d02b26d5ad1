"""One call of an ATen operator, whatever wrote it down: TorchScript, torch.export or torch.fx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Value:
    """A reference to a value of the graph: a tensor, or a number that is computed."""

    name: str


Argument: TypeAlias = (
    "Value | bool | int | float | str | list[Argument] | tuple[Argument, ...] | None"
)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call with its arguments under the names of the operator's schema.

    ``op`` is "aten.conv2d", without overload and without the underscore of an in-place variant. A
    dtype is given as a string ("float32"), a stored tensor as the Value that it has in Constants.
    ``name`` is what to call the node in a report, "" where nothing is better than its output.
    """

    op: str
    arguments: Mapping[str, Argument]
    outputs: tuple[str, ...]
    name: str = ""
    overload: str = ""

    def argument(self, name: str, default: Argument = None) -> Argument:
        """An argument by name, None being absent; "self" finds what a schema calls "input" too."""
        if name == "self" and name not in self.arguments:
            name = "input"
        held = self.arguments.get(name)
        return default if held is None else held

    def value(self, name: str) -> str:
        """The name of the value that an argument is, "" where it is none."""
        argument = self.argument(name)
        return argument.name if isinstance(argument, Value) else ""

    def number(self, name: str, default: float | None = None) -> float | None:
        """A number; the default where it is absent, None where it is computed."""
        argument = self.argument(name, default)
        return argument if isinstance(argument, int | float) else None

    def integer(self, name: str, default: int | None = None) -> int | None:
        """An integer, likewise."""
        argument = self.argument(name, default)
        return argument if type(argument) is int else None

    def flag(self, name: str, default: bool | None = None) -> bool | None:
        """A truth, likewise."""
        argument = self.argument(name, default)
        return bool(argument) if isinstance(argument, int) else None

    def text(self, name: str, default: str | None = None) -> str | None:
        """A string, likewise."""
        argument = self.argument(name, default)
        return argument if isinstance(argument, str) else None

    def integers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...] | None:
        """A list of integers, or one that stands for itself; None where any is computed."""
        argument = self.argument(name)
        if argument is None:
            return default
        items = argument if isinstance(argument, list | tuple) else (argument,)
        integers = tuple(item for item in items if type(item) is int)
        return integers if len(integers) == len(items) else None

    def sizes(self, name: str) -> tuple[int | None, ...] | None:
        """A list of sizes, with None in place of those that are computed: -1 where it is one."""
        argument = self.argument(name)
        if not isinstance(argument, list | tuple):
            return None
        sizes = tuple(item if type(item) is int else None for item in argument)
        if sizes.count(None) == 1 and -1 not in sizes:
            return tuple(-1 if size is None else size for size in sizes)
        return sizes


def values(argument: Argument) -> Iterator[str]:
    """The names of all values within an argument, in order."""
    waiting = [argument]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Value):
            yield item.name
        elif isinstance(item, list | tuple):
            waiting.extend(reversed(item))
