"""The BatchNorms of a model: how far their running means are from those predicted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from weakref import WeakKeyDictionary

import numpy as np

from bncheck.facts import Unknown, UnknownFact
from bncheck.graph import Node
from bncheck.model import Model, NormLayer
from bncheck.moments.distribution import Floats
from bncheck.moments.follow import Prediction, predictions
from bncheck.moments.norms import does_nothing, is_initial
from bncheck.moments.weights import kept
from bncheck.tensor import Tensor

DEFAULT_EPS = 1e-5
DEAD = 1e-3  # of eps: a variance below, and what is a deviation is not known
FEWEST = 4  # channels from which a layer can be judged
COUNTED = 0.9  # of the channels: those that are off most may have reasons of their own
OF_NORMAL = 0.79  # what leaving out the largest tenth leaves of a root mean square
TOO_FEW = Unknown("mean of the input", f"it is known in fewer than {FEWEST} channels")


@dataclass(frozen=True, eq=False)
class Fit:
    """The judged channels of a layer: stored and predicted means, and how far they are apart.

    ``misses`` are in stored standard deviations. ``folded`` are those from the mean that the input
    has where the layer has been folded into the weights before it: its bias, in units of its
    weight.
    """

    stored: Floats
    predicted: Floats
    misses: Floats
    folded: Floats

    @cached_property
    def score(self) -> float:
        """The root mean square of the misses, whatever the tenth is that is off most."""
        return spread(self.misses)

    @property
    def folded_score(self) -> float:
        """The same from the mean that the input has after folding."""
        return spread(self.folded)

    @property
    def correlation(self) -> float:
        """Of predicted and stored means over the channels; 0 where either is constant."""
        one, other = self.predicted - self.predicted.mean(), self.stored - self.stored.mean()
        norm = float(np.sqrt((one @ one) * (other @ other)))
        return float(one @ other) / norm if norm > 0 else 0.0


def spread(misses: Floats) -> float:
    """The root mean square, from all but the largest tenth, as if the misses were normal."""
    sizes = np.sort(np.abs(misses))[: int(np.ceil(COUNTED * len(misses)))]
    return float(np.sqrt(np.mean(sizes**2)) / OF_NORMAL)


@dataclass(frozen=True, eq=False)
class Survey:
    """The fits of a model's layers, or why there is none."""

    fits: Mapping[NormLayer, Fit | Unknown | None]

    def of(self, layer: NormLayer) -> Fit | None:
        """The fit of one layer, None where it does nothing, so that any mean will do.

        Raises UnknownFact where nothing is predicted.
        """
        fit = self.fits.get(layer)
        if isinstance(fit, Unknown):
            raise UnknownFact(fit)
        return fit

    @cached_property
    def scores(self) -> list[float]:
        """Those of all layers that have a fit, in order."""
        return sorted(fit.score for fit in self.fits.values() if isinstance(fit, Fit))

    @cached_property
    def typical(self) -> float:
        """The median score; 0 where there is none."""
        return median(self.scores) if self.scores else 0.0

    def typical_besides(self, fit: Fit) -> float:
        """The median score of the others; 0 where there are none."""
        place = bisect_left(self.scores, fit.score)
        others = self.scores[:place] + self.scores[place + 1 :]
        return median(others) if others else 0.0

    @cached_property
    def correlation(self) -> float:
        """The median correlation of stored and predicted means."""
        found = [fit.correlation for fit in self.fits.values() if isinstance(fit, Fit)]
        return median(found) if found else 0.0


_KEPT: WeakKeyDictionary[Model, Survey] = WeakKeyDictionary()


def survey(model: Model) -> Survey:
    """Every BatchNorm of a model against what is predicted for it; kept as long as the model is.

    Raises UnknownFact where the order of the layers is not known.
    """
    if model not in _KEPT:
        found = predictions(model.order)
        with np.errstate(all="ignore"):
            _KEPT[model] = Survey({layer: _fit(layer, found) for layer in model.batch_norms})
    return _KEPT[model]


def _fit(layer: NormLayer, found: Mapping[Node, Prediction | Unknown]) -> Fit | Unknown | None:
    try:
        return _measured(layer, list(_of_calls(layer, found)))
    except UnknownFact as error:
        return error.unknown


def _of_calls(layer: NormLayer, found: Mapping[Node, Prediction | Unknown]) -> Iterator[Prediction]:
    """What is predicted at each call. Raises UnknownFact where nothing is at one."""
    for call in layer.calls:
        prediction = found.get(call, TOO_FEW)
        if isinstance(prediction, Unknown):
            raise UnknownFact(prediction)
        yield prediction


def _measured(layer: NormLayer, calls: Sequence[Prediction]) -> Fit | Unknown | None:
    """The means of several calls are one mean in the statistics.

    A variance that was never updated tells nothing; the predicted one takes its place.
    """
    mean, var = _numbers(layer.running_mean, 0.0), _numbers(layer.running_var, 1.0)
    weight, bias = _numbers(layer.weight, 1.0), _numbers(layer.bias, 0.0)
    eps = layer.eps if layer.eps is not None else DEFAULT_EPS
    sizes = {each.size for each in (mean, var, *(c.mean for c in calls))}
    if not calls or len(sizes) > 1 or not {weight.size, bias.size} <= {1, mean.size}:
        return TOO_FEW
    deviation = np.sqrt(var + eps)
    scale = weight / deviation
    if does_nothing(scale, bias - scale * mean, var):
        return None
    rough = calls[0].deviation
    deviation = rough if rough is not None and is_initial(mean, var) else deviation
    misses = np.mean([call.misses(mean, deviation) for call in calls], axis=0)
    unit = np.full(mean.size, np.sqrt(np.mean(weight**2)))
    folded = np.mean([call.misses(bias, unit) for call in calls], axis=0)
    judged = np.isfinite(misses) & np.isfinite(folded) & (var >= DEAD * eps)
    if judged.sum() < FEWEST:
        return TOO_FEW
    predicted = mean + misses * deviation
    return Fit(mean[judged], predicted[judged], misses[judged], folded[judged])


def _numbers(tensor: Tensor | None, default: float) -> Floats:
    """A tensor's elements, or the one number that a missing one stands for."""
    return np.full(1, default) if tensor is None else kept(tensor)
