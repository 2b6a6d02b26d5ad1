"""How many normalization layers one file may have, and how many values of it are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.model import NormLayer

MAX_LAYERS = 50_000  # far more than any model has
MAX_ELEMENTS = 2**23  # of a tensor whose values are read
MAX_ALL_ELEMENTS = 2**24  # of all tensors of a file whose values are read: they stay in memory
SCATTERED = 8  # what an element costs that does not lie behind the one before it

_bounded: ContextVar[bool] = ContextVar("bounded", default=True)


@contextmanager
def all_values() -> Iterator[None]:
    """Within, values are read however many they are: for work that needs every weight."""
    token = _bounded.set(False)
    try:
        yield
    finally:
        _bounded.reset(token)


class ElementBudget:
    """How many values of one file may be read."""

    def __init__(self) -> None:
        self._elements = MAX_ALL_ELEMENTS

    def decode(self, elements: int, contiguous: bool = True) -> None:
        """Decode so many elements; raises UnknownFact where it were too many."""
        if not _bounded.get():
            return
        if elements > MAX_ELEMENTS:
            raise UnknownFact(Unknown("values", f"over {MAX_ELEMENTS} elements are not read"))
        self._elements -= elements if contiguous else elements * SCATTERED
        if self._elements < 0:
            raise UnknownFact(Unknown("values", f"{MAX_ALL_ELEMENTS} elements were read already"))


def bounded(layers: Iterable[NormLayer], already: int = 0) -> tuple[NormLayer, ...]:
    """All layers, with those of other models of the file already counted.

    Raises UnreadableModel where they are too many, before it makes more of them.
    """
    kept = tuple(islice(layers, MAX_LAYERS - already + 1))
    if len(kept) + already > MAX_LAYERS:
        raise UnreadableModel(f"holds over {MAX_LAYERS} normalization layers")
    return kept
