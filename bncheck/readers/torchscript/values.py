"""What the names of TorchScript code stand for while it is followed.

Plain numbers, strings, None and tuples stand for themselves. Tensors are names of values of the
graph; numbers that come from tensors or their shapes are unknown, but know what they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bncheck.facts import Unknown
from bncheck.readers.torchscript.program import Function, Unclear
from bncheck.tensor import Tensor

# None, bool, int, float, complex, str, a tuple of values, or one of the classes below.
Runtime = Any

DEEPEST = 20  # containers in containers
MOST_WORK = 300_000  # steps of expressions, items of containers and names that are looked at


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """A value of the graph: a tensor, or (as a caller gives or an operator makes them) several.

    ``optional``: it may be None.
    """

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A tensor of the archive, under its qualified name."""

    name: str
    tensor: Tensor | Unknown


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """A number, truth, string or a list of such that depends on what the caller gives.

    ``source`` is a tensor that it was computed from, ``of_shape`` whether from its shape alone.
    """

    source: Data | Stored | None = None
    of_shape: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class List:
    """A list by identity; what is in it is kept by the Heap."""


@dataclass(frozen=True, slots=True, eq=False)
class Dictionary:
    """A dictionary by identity, likewise; a key is "s" or "i" and the string or integer."""


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """An operator, function, class or type by its dotted name."""

    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """A method, and the object whose it is."""

    target: Runtime
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Closure:
    """A function inside another, and the names that it sees."""

    function: Function
    scope: Any


@dataclass(frozen=True, slots=True, eq=False)
class Uninitialized:
    """What stands for a value on the paths on which it is not used."""


UNKNOWN = Computed()
UNINITIALIZED = Uninitialized()


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


def is_plain(value: Runtime) -> bool:
    """Whether a value stands for itself, tuples apart."""
    return value is None or isinstance(value, bool | int | float | complex | str)


def key_of(value: Runtime) -> str | None:
    """The key of a Dictionary; None for one that is not known."""
    if isinstance(value, str):
        return "s" + value
    return f"i{int(value)}" if isinstance(value, int) else None


class Budget:
    """What following the code may cost."""

    def __init__(self) -> None:
        self._left = MOST_WORK

    def spend(self, work: int) -> None:
        """Raises Unclear where it were too much."""
        self._left -= work
        if self._left < 0:
            raise Unclear(f"it takes over {MOST_WORK:,} steps, with calls inlined")


class Heap:
    """What can change: contents of containers, attributes of objects, tensors changed in place.

    Every change is noted, so that those of a branch can be taken back.
    """

    def __init__(self) -> None:
        self.budget = Budget()
        self._held: dict[object, Runtime] = {}
        self._journal: list[tuple[object, Runtime]] = []

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def __getitem__(self, key: object) -> Runtime:
        return self._held[key]

    def __setitem__(self, key: object, value: Runtime) -> None:
        self._journal.append((key, self._held.get(key, _ABSENT)))
        self._held[key] = value

    @property
    def position(self) -> int:
        """The present, for ``changes`` and ``undo``."""
        return len(self._journal)

    def changes(self, position: int) -> dict[object, Runtime]:
        """What was changed since then, with its present values; of new objects nothing."""
        self.budget.spend(len(self._journal) - position)
        entries = self._journal[position:]
        created = _created(entries)
        return {key: self._held[key] for key, _ in entries if not _belongs(key, created)}

    def undo(self, position: int, keep: Callable[[object], bool]) -> None:
        """Make everything as it was then, new objects and what to ``keep`` apart."""
        entries = self._journal[position:]
        del self._journal[position:]
        created = _created(entries)
        for key, old in reversed(entries):
            if _belongs(key, created) or keep(key):
                continue
            if old is _ABSENT:
                self._held.pop(key, None)
            else:
                self._held[key] = old


def _created(entries: list[tuple[object, Runtime]]) -> set[object]:
    """The objects that were not there before; they are keys from their beginning."""
    return {key for key, old in entries if old is _ABSENT and not isinstance(key, str | tuple)}


def _belongs(key: object, created: set[object]) -> bool:
    """Whether a key is a new object, or (object, attribute) of one."""
    return key in created or (isinstance(key, tuple) and key[0] in created)


_ABSENT: Runtime = object()


def leaves(value: Runtime, heap: Heap) -> Iterator[Runtime]:
    """What is in a value, however deep: all but tuples, lists and dictionaries."""
    waiting = [value]
    while waiting:
        heap.budget.spend(1)
        item = waiting.pop()
        content = heap[item] if isinstance(item, List | Dictionary) else item
        if isinstance(content, dict):
            waiting.extend(reversed(content.values()))
        elif isinstance(content, list | tuple):
            waiting.extend(reversed(content))
        else:
            yield content
