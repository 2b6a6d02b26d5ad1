"""How many normalization layers one file may have: far more than any model does."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from bncheck.errors import UnreadableModel
from bncheck.model import NormLayer

MAX_LAYERS = 50_000


def bounded(layers: Iterable[NormLayer], already: int = 0) -> tuple[NormLayer, ...]:
    """All layers, with those of other models of the file already counted.

    Raises UnreadableModel where they are too many, before it makes more of them.
    """
    kept = tuple(islice(layers, MAX_LAYERS - already + 1))
    if len(kept) + already > MAX_LAYERS:
        raise UnreadableModel(f"holds over {MAX_LAYERS} normalization layers")
    return kept
