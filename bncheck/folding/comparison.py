"""How far two runs of a model may be apart, and how far they are.

The bound of an output is what an optimised and an unoptimised run of the original differ by, times
a factor, but at least a fraction of the output's root mean square: rounding alone makes as much.
A place inside the model has no optimised counterpart; there each channel is compared by itself.
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
MOST_CHANGED = 1e-3  # of integers, such as an argmax: a tie may fall either way

Any_ = NDArray[Any]
Array = NDArray[np.float64]


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
    elif not np.issubdtype(original.dtype, np.floating) and original.dtype.name != "bfloat16":
        changed = float((original != folded).mean()) if original.size else 0.0
        noise = float((original != optimised).mean()) if original.size else 0.0
        into.note(changed, max(MOST_CHANGED, FACTOR * noise), 0.0, _varies(original))
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
    a, b = _by_channel(original), _by_channel(folded)
    floor = SITE * FLOORS.get(dtype or original.dtype.name, 1e-5)
    sizes = np.array([_rms(channel) for channel in a])
    bounds = floor * np.maximum(sizes, SILENT * sizes.mean() if sizes.size else 0.0)
    if optimised is not None and optimised.shape == original.shape:
        pairs = zip(a, _by_channel(optimised), strict=True)
        noise = np.array([_largest_error(*pair) for pair in pairs])
        bounds = np.maximum(bounds, FACTOR * np.maximum(noise, noise.mean()))
    for mine, other, bound, size in zip(a, b, bounds, sizes, strict=True):
        into.note(_largest_error(mine, other), float(bound), float(size), _varies(mine))


def _by_channel(array: Any_) -> Array:
    if array.ndim < 2:
        return _float64(array).reshape(1, -1)
    return np.moveaxis(_float64(array), 1, 0).reshape(array.shape[1], -1)


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
