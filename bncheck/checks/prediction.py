"""BN211 and BN703, in preview: running means against those that the weights before them predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, sqrt
from typing import TYPE_CHECKING

from bncheck.checks.words import label
from bncheck.facts import Unknown, UnknownFact
from bncheck.finding import Observation
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model, NormLayer
from bncheck.tensor import Tensor

if TYPE_CHECKING:
    from bncheck.moments.survey import Fit, Survey

LINEAR = frozenset({NodeKind.CONV, NodeKind.CONV_TRANSPOSE, NodeKind.LINEAR})
DEFAULT_EPS = 1e-5
OUTLIER = 3.0  # times the median of the others
FOLLOWS = 0.3  # a correlation over the channels
PRUNED = 0.3  # of the weights
SAME = 1e-2  # of the shift: rounding, or another eps at the time of folding
FEWEST = 2  # channels: a single one may agree by chance


def statistics_do_not_fit_weights(
    layer: NormLayer, model: Model, *, limit: float = 0.3, typical: float = 0.2
) -> Iterator[Observation]:
    """BN211: a running_mean that is not the mean which the weights before it give."""
    if layer.running_mean is None or layer.running_var is None:
        return
    survey = _survey(model)
    fit = survey.of(layer)
    if fit is None or fit.score <= limit:
        return
    others = survey.typical_besides(fit)
    alone = fit.score > OUTLIER * others
    if alone or survey.typical > typical:
        follows = (fit.correlation if alone else survey.correlation) >= FOLLOWS
        yield Observation(
            f"running_mean is off by {fit.score:.2g} standard deviations from what the weights "
            f"before it give{f' (other layers: {others:.2g})' * (others > 0)}: "
            f"{_cause(layer, model.order, fit, follows)}.",
            {
                "score": round(fit.score, 4),
                "median_of_others": round(others, 4),
                "correlation": round(fit.correlation, 4),
                "channels": len(fit.misses),
            },
        )


def _survey(model: Model) -> Survey:
    from bncheck.moments.survey import survey

    return survey(model)


def _cause(layer: NormLayer, graph: Graph, fit: Fit, follows: bool) -> str:
    """The likely reason; ``follows``: whether the stored means go with the predicted ones."""
    from bncheck.moments.weights import share_of_zeros

    if not fit.stored.any():
        return "it is 0, as a layer starts with: reset, or never updated"
    zeros = max((share_of_zeros(w) for w in _weights_before(layer, graph)), default=0.0)
    if zeros > PRUNED:
        return f"{zeros:.0%} of those weights are 0: pruned without re-estimating"
    if not follows:
        return "the two have nothing in common: statistics of another network or layer"
    return "the weights moved since: averaged (SWA, EMA) without update_bn, pruned or fine-tuned"


def _weights_before(layer: NormLayer, graph: Graph) -> Iterator[Tensor]:
    for call in layer.calls:
        before = graph.producer(call.inputs[0]) if call.inputs else None
        weight = before.parameters.get("weight") if before else None
        if before and before.kind in LINEAR and isinstance(weight, Tensor):
            yield weight


def folded_twice(layer: NormLayer, model: Model, *, limit: float = 0.3) -> Iterator[Observation]:
    """BN703: a BatchNorm that the weights before it have in them already."""
    if layer.running_mean is None or layer.running_var is None:
        return
    linear = list(_with_bias(layer, model.order))
    if not linear:
        return
    into = [label(node) for node in linear]
    if _agree(_shift(layer), [node.parameters["bias"] for node in linear]):
        yield Observation(
            f"The bias of {into[0]} is bias - running_mean * weight / sqrt(var + eps) of this "
            "layer, which only folding leaves there: the layer is applied twice.",
            {"into": into, "by": "bias"},
        )
        return
    fit = _survey(model).of(layer)
    if fit and fit.score > max(limit, OUTLIER * fit.folded_score):
        yield Observation(
            f"The input has the mean that this layer's output should have (off by "
            f"{fit.folded_score:.2g} standard deviations), not running_mean (off by "
            f"{fit.score:.2g}): {into[0]} has the layer in it, and it is applied twice.",
            {
                "into": into,
                "by": "mean",
                "score": round(fit.score, 4),
                "folded_score": round(fit.folded_score, 4),
            },
        )


def _with_bias(layer: NormLayer, graph: Graph) -> Iterator[Node]:
    """The linear ops directly before a layer that have a bias, as folding leaves one.

    Raises UnknownFact where it is not known what is before.
    """
    for call in layer.calls:
        before = graph.producer(call.inputs[0]) if call.inputs else None
        if before is None and not graph.complete:
            raise UnknownFact(Unknown("order", "what comes before this layer is not in this file"))
        if before and before.kind in LINEAR and "bias" in before.parameters:
            yield before


def _shift(layer: NormLayer) -> list[float]:
    """The t of y = s * x + t in each channel; empty where shapes disagree or numbers are broken."""
    mean, var = _values(layer.running_mean), _values(layer.running_var)
    weight = _values(layer.weight) or [1.0] * len(mean)
    bias = _values(layer.bias) or [0.0] * len(mean)
    eps = DEFAULT_EPS if layer.eps is None else layer.eps
    if not len(mean) == len(var) == len(weight) == len(bias) or min(var, default=-eps) + eps <= 0:
        return []
    rows = zip(weight, bias, mean, var, strict=True)
    return [b - m * w / sqrt(v + eps) for w, b, m, v in rows]


def _values(tensor: Tensor | None) -> Sequence[float]:
    return [] if tensor is None else tensor.values


def _agree(shift: Sequence[float], biases: Sequence[Tensor | Unknown]) -> bool:
    """Whether each bias is the shift, which must have something in it to agree with."""
    size = sum(value * value for value in shift)
    if len(shift) < FEWEST or not size > 0 or not isfinite(size):
        return False
    return all(isinstance(b, Tensor) and _off(b.values, shift) <= SAME**2 * size for b in biases)


def _off(values: Sequence[float], shift: Sequence[float]) -> float:
    if len(values) != len(shift):
        return float("inf")
    return sum((value - wanted) ** 2 for value, wanted in zip(values, shift, strict=True))
