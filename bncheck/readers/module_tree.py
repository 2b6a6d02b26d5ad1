"""A module tree, pickled, scripted or live: what each module has in its ``__dict__``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bncheck.errors import UnreadableModel

if TYPE_CHECKING:
    from bncheck.readers.torch.values import Parameter

MAX_MODULES = 500_000
MAX_NAME = 1000  # characters of a module's qualified name
HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class ModuleRecord(Protocol):
    """One module: its class, its plain attributes, its tensors and its children, in order."""

    @property
    def identity(self) -> int:
        """Equal for two places that hold the same module."""

    @property
    def class_path(self) -> str:
        """Module and qualified name of the class."""

    @property
    def lineage(self) -> tuple[str, ...]:
        """The class path, then those of its base classes as far as they are known."""

    @property
    def is_rewired(self) -> bool:
        """Whether hooks or a forward of its own change what the class would compute."""

    @property
    def attributes(self) -> Mapping[str, object]:
        """What else the module holds in its ``__dict__``."""

    @property
    def parameters(self) -> Mapping[str, Parameter | None]:
        """Registered parameters; None for one that is registered as absent."""

    @property
    def buffers(self) -> Mapping[str, Parameter | None]:
        """Registered buffers, likewise."""

    @property
    def children(self) -> Mapping[str, ModuleRecord]:
        """Registered submodules."""

    def lookup(self, name: str) -> Parameter | None:
        """The tensor that ``self.<name>`` is: a plain attribute hides what is registered."""


class Tree(NamedTuple):
    """The modules of a tree by qualified name, each once, in the order of named_modules."""

    places: Mapping[str, ModuleRecord]
    references: Counter[int]  # by identity: in how many places a module is registered

    def is_shared(self, record: ModuleRecord) -> bool:
        """Whether a module is registered in several places."""
        return self.references[record.identity] > 1


def parameters(modules: Tree) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters by qualified name, in the order of Module.parameters()."""
    shapes: dict[str, tuple[int, ...]] = {}
    seen: set[int] = set()
    for place, record in modules.places.items():
        for name, held in record.parameters.items():
            shape = getattr(held.tensor, "shape", None) if held else None
            if shape is not None and id(held) not in seen:
                shapes[f"{place}.{name}" if place else name] = shape
            seen.add(id(held))
    return shapes


def tree(root: ModuleRecord) -> Tree:
    """Walk a module; one inside itself is entered once.

    Raises UnreadableModel for over MAX_MODULES of them, or a name of over MAX_NAME characters.
    """
    places: dict[str, ModuleRecord] = {}
    references: Counter[int] = Counter()
    stack: list[tuple[str, ModuleRecord]] = [("", root)]
    while stack:
        name, record = stack.pop()
        if len(name) > MAX_NAME:
            raise UnreadableModel(f"nests modules until a name has over {MAX_NAME} characters")
        if len(places) == MAX_MODULES:
            raise UnreadableModel(f"holds over {MAX_MODULES} modules")
        references[record.identity] += 1
        if references[record.identity] > 1:
            continue
        places[name] = record
        for child_name, child in reversed([*record.children.items()]):
            stack.append((f"{name}.{child_name}" if name else child_name, child))
    return Tree(places, references)
