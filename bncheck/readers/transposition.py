"""Constants with their axes in another order, for the readers of all graph formats."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Hashable
from functools import partial

from bncheck.facts import Unknown, UnknownFact
from bncheck.tensor import Tensor

MOST_ELEMENTS = 2**24  # each is moved on its own


def transposed(source: Tensor, order: tuple[int, ...], storage: Hashable) -> Tensor:
    """A tensor whose axis i is the source's axis ``order[i]``, computed on first touch."""
    shape = tuple(source.shape[axis] for axis in order)
    return Tensor(shape, source.dtype, partial(_moved, source, order), storage)


def _moved(source: Tensor, order: tuple[int, ...]) -> array[float]:
    if source.numel > MOST_ELEMENTS:
        why = f"a tensor of over {MOST_ELEMENTS:,} elements is not transposed"
        raise UnknownFact(Unknown("values", why))
    steps = [math.prod(source.shape[axis + 1 :]) for axis in order]
    axes = [
        [step * i for i in range(source.shape[axis])]
        for axis, step in zip(order, steps, strict=True)
    ]
    values = source.values
    return array(values.typecode, (values[sum(place)] for place in itertools.product(*axes)))
