"""The inert values of a pickle: data, names, and calls that were not made.

Nothing here compares, hashes or runs what a file holds, strings as keys of dictionaries apart.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any

from bncheck.errors import UnreadableModel

MAX_NAME = 4096  # characters of a name that models are searched by

# None, bool, int, float, str, bytes, tuple, list, Global, PersistentId, Dict, Set or Instance.
Value = Any
UNREAD: Any = object()


class Global:
    """A class or function by name."""

    __slots__ = ("module", "name", "path")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name
        self.path = f"{module}.{name}"

    def __repr__(self) -> str:
        return f"Global({self.path})"


class PersistentId:
    """A reference to something outside the pickle: in PyTorch's files, a storage."""

    __slots__ = ("place", "value")

    def __init__(self, value: Value) -> None:
        self.value = value
        self.place: Any = None  # what storage.place makes of it


class Dict:
    """A dictionary as the pairs that were set, in order; a later pair replaces an earlier one."""

    __slots__ = ("named", "pairs")

    def __init__(self) -> None:
        self.pairs: Sequence[tuple[Value, Value]] = ()
        self.named: dict[str, Value] | None = UNREAD  # see mapping


class Set:
    """A set or frozenset as its elements."""

    __slots__ = ("elements",)

    def __init__(self, elements: list[Value]) -> None:
        self.elements: Sequence[Value] = elements


class Instance:
    """The result of a call that was not made: what was called, with what, and what was set since.

    ``state`` is what a BUILD would give to ``__setstate__`` or ``__dict__``; ``pairs`` and
    ``elements`` are what SETITEMS and APPENDS would add, or what a dictionary was made from.
    ``is_new``: it would be made by the class's ``__new__`` alone; None where this is not told.
    """

    __slots__ = (
        "args",
        "called",
        "elements",
        "held",
        "is_new",
        "named",
        "pairs",
        "state",
        "tensor",
    )

    def __init__(self, called: Value, args: tuple[Value, ...]) -> None:
        self.called = called
        self.args = args
        self.is_new: bool | None = False
        self.state: Value = None
        self.pairs: Sequence[tuple[Value, Value]] = ()
        self.elements: Sequence[Value] = ()
        self.named: dict[str, Value] | None = UNREAD  # see mapping
        self.held: Mapping[str, Value] = UNREAD  # see attributes
        self.tensor: Any = UNREAD  # what torch_values.parameter makes of it

    @property
    def class_path(self) -> str:
        """The dotted path of the class, or of the function that would make the object."""
        called = self.called
        if isinstance(called, Global) and called.path in _RECONSTRUCTORS and self.args:
            called = self.args[0]
        if isinstance(called, PersistentId):  # PyTorch before 1.6: ("module", class, source, ...)
            match called.value:
                case ("module", Global() as called, *_):
                    pass
        path = called.path if isinstance(called, Global) else ""
        return _MAKERS.get(path, path)

    @property
    def is_changed(self) -> bool:
        """Whether anything was set after the call."""
        return self.state is not None or bool(self.pairs) or bool(self.elements)


_RECONSTRUCTORS = {
    "copyreg._reconstructor",
    "copy_reg._reconstructor",
    "copyreg.__newobj__",
    "copyreg.__newobj_ex__",
}
# Functions that are given the attributes of the module that they make, and the module's class.
_MAKERS = {"torch.fx.graph_module.reduce_graph_module": "torch.fx.graph_module.GraphModule"}


def mapping(value: Value) -> dict[str, Value] | None:
    """A dictionary-like value whose keys are all strings, in Python's order; else None.

    It is made once and shared, since a pickle may refer to one value from a million places: do not
    change it. Raises UnreadableModel for a key of over MAX_NAME characters.
    """
    if not isinstance(value, Dict | Instance):
        return None
    if value.named is UNREAD:
        value.named = dict(value.pairs) if _is_mapping(value) else None
    return value.named


def _is_mapping(value: Dict | Instance) -> bool:
    if not value.pairs:
        return isinstance(value, Dict) or value.class_path in _DICTIONARIES
    if not all(isinstance(key, str) for key, _ in value.pairs):
        return False
    if any(len(key) > MAX_NAME for key, _ in value.pairs):
        raise UnreadableModel(f"holds a name of over {MAX_NAME} characters")
    return True


_DICTIONARIES = {"collections.OrderedDict", "collections.defaultdict"}


def attributes(value: Value) -> Mapping[str, Value]:
    """What an object would hold in its ``__dict__`` and its slots."""
    if not isinstance(value, Instance):
        return {}
    if value.held is UNREAD:
        value.held = _attributes(value)
    return value.held


def _attributes(value: Instance) -> Mapping[str, Value]:
    if isinstance(value.called, Global) and value.called.path in _MAKERS and value.args:
        return mapping(value.args[0]) or {}
    if not isinstance(value.state, tuple):
        return mapping(value.state) or {}
    # (__dict__, slots), or what only a __setstate__ understands
    parts = [held for part in value.state[:2] if (held := mapping(part))]
    return ChainMap(*reversed(parts)) if parts else {}
