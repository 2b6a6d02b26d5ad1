"""What checks of single layers need to know of the whole model, found once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

from bncheck.model import Model

T = TypeVar("T")


def once_per_model(find: Callable[[Model], T]) -> Callable[[Model], T]:
    """Keep what is found for as long as the model is: a check of each layer may ask for it."""
    kept: WeakKeyDictionary[Model, T] = WeakKeyDictionary()

    @wraps(find)
    def found(model: Model) -> T:
        if model not in kept:
            kept[model] = find(model)
        return kept[model]

    return found
