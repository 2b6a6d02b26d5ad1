"""What is wrong with the values of tensors, found once for several rules."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bncheck.checks.words import channels, where
from bncheck.finding import Observation
from bncheck.model import Kind
from bncheck.tensor import Tensor

PER_ELEMENT: frozenset[Kind | None] = frozenset({"layer", "rms", None})  # the others: per channel


class Defect(NamedTuple):
    """What some tensors of a layer have at the same places: NaN, infinity or both."""

    tensors: tuple[str, ...]
    what: str
    indices: tuple[int, ...]
    total: int


def non_finite(
    tensors: Mapping[str, Tensor | None], noun: str = "channel"
) -> Iterator[Observation]:
    """One observation for each set of places at which one or several tensors are broken."""
    for defect in _defects(tensors):
        names = " and ".join(defect.tensors)
        verb = "is" if len(defect.tensors) == 1 else "are"
        yield Observation(
            f"{names} {verb} {defect.what} in {where(defect.indices, defect.total, noun)}: "
            f"{_subject(defect, noun)} {_outcome(defect)}.",
            {"tensors": list(defect.tensors), **channels(defect.indices, defect.total)},
        )


def _defects(tensors: Mapping[str, Tensor | None]) -> Iterator[Defect]:
    groups: dict[tuple[str, tuple[int, ...], int], list[str]] = {}
    for name, tensor in tensors.items():
        if tensor is not None and not tensor.finite:
            indices = tensor.where(lambda value: not math.isfinite(value))
            groups.setdefault((_what(tensor, indices), indices, tensor.numel), []).append(name)
    return (Defect(tuple(names), *shared) for shared, names in groups.items())


def _what(tensor: Tensor, indices: tuple[int, ...]) -> str:
    nans = sum(math.isnan(tensor.values[i]) for i in indices)
    if nans == len(indices):
        return "NaN"
    return "NaN or infinite" if nans else "infinite"


def _subject(defect: Defect, noun: str) -> str:
    if len(defect.indices) == 1:
        return f"that {noun} outputs"
    return "the layer outputs" if len(defect.indices) == defect.total else f"those {noun}s output"


def _outcome(defect: Defect) -> str:
    if defect.what == "NaN":
        return "NaN"
    # x / sqrt(+inf) is 0, which leaves the bias; sqrt(-inf) is NaN.
    return "a constant or NaN" if defect.tensors == ("running_var",) else "infinity or NaN"
