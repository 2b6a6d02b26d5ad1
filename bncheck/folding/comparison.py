"""How far two runs of a model may be apart, and how far they are.

The bound of an output is what an optimised and an unoptimised run of the original differ by, times
a factor, but at least a fraction of the output's root mean square: rounding alone makes as much.
A place inside the model has no optimised counterpart; there each channel is compared by itself.

Where parts of the models run on the same numbers (``compare_near``), only the rounding of a few
operators is between them. How large it may be is measured too: data and parameters are moved by a
few units in the last place, and both models show by how much each channel moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bncheck.folding.result import Deviation

FACTOR = 8.0
FLOORS = {"float64": 1e-5, "float32": 1e-5, "float16": 2.0**-8, "bfloat16": 2.0**-5}
SITE = 100.0  # a site's bound in floors: cancellation of a mean costs digits that outputs regain
SILENT = 0.3  # of the mean channel: a small one may be the difference of large terms
SHAKES = {"float64": 2.0**-49, "float32": 2.0**-20, "float16": 2.0**-8, "bfloat16": 2.0**-5}
TYPICAL = 0.25  # of the middle channel: what a channel with few numbers moves by is chance
SMALLEST = 1e-300
ROUNDED = 2.0  # times a shake: what a large convolution's own rounding may come to
STILL = 16.0  # the errors of adding up many numbers that are all the same do not cancel
MOST_CHANGED = 1e-3  # of integers, such as an argmax: a tie may fall either way

Any_ = NDArray[Any]
Array = NDArray[np.float64]
WIDE = frozenset({"float32", "float64"})  # compared as they are: near numbers differ exactly
Pair = tuple[Any_, Any_]


@dataclass
class Comparison:
    """One value over all runs; the worst run counts."""

    name: str
    max_abs: float = 0.0
    bound: float = 0.0
    rms: float = 0.0
    exercised: bool = False
    _ratio: float = field(default=-1.0, repr=False)

    def note(self, error: float, bound: float, rms: float, varies: bool) -> None:
        """Take note of a run; NaN is worse than any number."""
        ratio = error / bound if bound else (0.0 if error == 0 else np.inf)
        ratio = np.inf if np.isnan(ratio) else ratio
        self.exercised |= varies
        if ratio > self._ratio:
            self._ratio, self.max_abs, self.bound, self.rms = ratio, error, bound, rms

    def add(self, other: Comparison) -> None:
        """Take note of what came of other runs."""
        self.note(other.max_abs, other.bound, other.rms, other.exercised)

    def deviation(self) -> Deviation:
        """What came of all runs."""
        return Deviation(self.name, self.max_abs, self.bound, self.rms, self.exercised)


def compare_output(
    into: Comparison,
    original: Any_,
    optimised: Any_,
    folded: Any_,
    tolerance: float | None,
    dtype: str = "",
) -> None:
    """An output of the model: ``tolerance`` stands in for the bound where it is given.

    ``dtype`` is that of the model where numpy has none such.
    """
    if original.shape != folded.shape:
        into.note(np.inf, 0.0, 0.0, True)
    elif not _is_float(original):
        bound = max(MOST_CHANGED, FACTOR * _changed(original, optimised))
        into.note(_changed(original, folded), bound, 0.0, _varies(original))
    else:
        a, b = _float64(original), _float64(folded)
        floor = FLOORS.get(dtype or original.dtype.name, 1e-5) * _rms(a)
        noise = _largest_error(a, _float64(optimised))
        bound = max(floor, FACTOR * noise) if tolerance is None else tolerance
        into.note(_largest_error(a, b), bound, _rms(a), _varies(original))


def compare_site(
    into: Comparison,
    original: Any_,
    folded: Any_,
    optimised: Any_ | None = None,
    dtype: str = "",
) -> None:
    """What a BatchNorm made, and what stands for it; channels are axis 1.

    What rounding alone does to it raises the bound, where ``optimised`` is known.
    """
    if original.shape != folded.shape:
        into.note(np.inf, 0.0, 0.0, True)
        return
    if not original.size:
        return
    a = _by_channel(original)
    errors, sizes = _errors(a, _by_channel(folded)), _sizes(a)
    floor = SITE * FLOORS.get(dtype or original.dtype.name, 1e-5)
    bounds = floor * np.maximum(sizes, SILENT * sizes.mean())
    if optimised is not None and optimised.shape == original.shape:
        noise = _errors(a, _by_channel(optimised))
        bounds = np.maximum(bounds, FACTOR * np.maximum(noise, noise.mean()))
    worst = int(np.argmax(errors / np.maximum(bounds, SMALLEST)))
    numbers = float(errors[worst]), float(bounds[worst]), float(sizes[worst])
    into.note(*numbers, any(map(_varies, a)))


def compare_near(
    into: Comparison, original: Any_, folded: Any_, shaken: Sequence[Pair], dtype: str
) -> None:
    """A value of two parts that were given the same numbers; channels are axis 1.

    ``shaken`` has what a model makes, and what it makes with all numbers moved by up to SHAKES of
    ``dtype``; without, the bound is the least, which comes of the size of the values alone.
    """
    if original.shape != folded.shape or not _is_float(original):
        moved = noisiest(original, [other for _, other in shaken])
        compare_output(into, original, moved, folded, None)
    elif original.size:
        a = _by_channel(original)
        errors, sizes = _errors(a, _by_channel(folded)), _sizes(a)
        units = SHAKES[dtype] * np.where((a != a[:, :1]).any(axis=1), ROUNDED, STILL)
        bounds = FACTOR * _moved(units * sizes, shaken)
        with np.errstate(invalid="ignore"):
            ratios = errors / np.maximum(bounds, SMALLEST)
        worst = int(np.argmax(np.nan_to_num(ratios, nan=0.0, posinf=np.inf)))
        numbers = float(errors[worst]), float(bounds[worst]), float(sizes[worst])
        into.note(*numbers, _varies(original))


def _moved(least: Array, shaken: Sequence[Pair]) -> Array:
    """How far each channel moves; what a small one does by chance is not taken for all it can."""
    moved = least
    for one, other in shaken:
        if one.shape == other.shape:
            moved = np.maximum(moved, _errors(_by_channel(one), _by_channel(other)))
    return np.asarray(np.maximum(moved, TYPICAL * np.median(moved)))


def _errors(a: Any_, b: Any_) -> Array:
    """The largest error of each row, as ``_largest_error``."""
    with np.errstate(invalid="ignore", over="ignore"):
        differences = np.abs(a - b)
    errors = _float64(differences.max(axis=1))
    if np.isfinite(errors).all():  # then all numbers are
        return errors
    errors = np.where(np.isfinite(a), differences, 0.0).max(axis=1)
    return np.where(np.isnan(errors), np.inf, errors)


def _sizes(a: Any_) -> Array:
    """The root mean square of each row, of what is finite."""
    squares = np.einsum("cp,cp->c", a, a, dtype=np.float64)
    if np.isfinite(squares).all():
        return np.asarray(np.sqrt(squares / a.shape[1]))
    known = np.isfinite(a)
    squares = np.square(_float64(np.where(known, a, 0.0))).sum(axis=1)
    return np.asarray(np.sqrt(squares / np.maximum(known.sum(axis=1), 1)))


def noisiest(original: Any_, others: Sequence[Any_]) -> Any_:
    """Of several runs of the original, the one that differs most from the first."""
    alike = [each for each in others if each.shape == original.shape]
    differ = _difference if _is_float(original) else _changed
    return max(alike, key=lambda each: differ(original, each), default=original)


def _difference(a: Any_, b: Any_) -> float:
    return _largest_error(_float64(a), _float64(b))


def _changed(a: Any_, b: Any_) -> float:
    """The part of elements that are not the same."""
    if a.shape != b.shape:
        return 1.0
    return float((a != b).mean()) if a.size else 0.0


def _is_float(array: Any_) -> bool:
    return np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16"


def _by_channel(array: Any_) -> Any_:
    """A row for each channel, which is axis 1."""
    wide = array if array.dtype.name in WIDE else array.astype(np.float32)
    if wide.ndim < 2:
        return wide.reshape(1, -1)
    return np.moveaxis(wide, 1, 0).reshape(wide.shape[1], -1)


def _float64(array: Any_) -> Array:
    return array.astype(np.float64)


def _largest_error(a: Array, b: Array) -> float:
    """The largest absolute difference where the original is finite; infinite for a new NaN."""
    known = np.isfinite(a)
    if not known.any():
        return 0.0
    with np.errstate(invalid="ignore"):
        error = np.abs(a[known] - b[known])
    return float(np.inf) if np.isnan(error).any() else float(error.max())


def _rms(array: Array) -> float:
    known = array[np.isfinite(array)]
    return float(np.sqrt(np.mean(np.square(known)))) if known.size else 0.0


def _varies(array: Any_) -> bool:
    return array.size > 1 and bool((array != array.flat[0]).any())


def comparisons(names: Sequence[str]) -> dict[str, Comparison]:
    """A comparison for each name."""
    return {name: Comparison(name) for name in names}
