"""What a report needs of a model: no graph, no open file, and values only where they are drawn."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from functools import cache

from bncheck.errors import BncheckError
from bncheck.facts import Unknown, UnknownFact
from bncheck.finding import Finding
from bncheck.model import Kind, Model, NormLayer
from bncheck.report import FLAGS, TENSORS, ModelReport
from bncheck.tensor import Tensor


class Detail(IntEnum):
    """How much is kept of every layer: name and kind, all facts, or the values of tensors too."""

    NAMES = 0
    FACTS = 1
    VALUES = 2


def condensed(model: Model, detail: Detail) -> Model:
    """A model that takes little memory, and that another process can be sent."""
    layers = tuple(_layer(layer, detail) for layer in model.layers)
    return replace(model, layers=layers, facts={})


def _layer(layer: NormLayer, detail: Detail) -> NormLayer:
    if detail is Detail.NAMES:
        return replace(layer, facts={})
    facts = {name: layer.facts[name] for name in FLAGS if name in layer.facts}
    for name in TENSORS:
        if name in layer.facts:
            facts[name] = _tensor(layer.facts[name], detail)
    return replace(layer, facts=facts)


def _tensor(held: object, detail: Detail) -> object:
    if not isinstance(held, Tensor):  # None, or an Unknown
        return held
    load = _kept(held) if detail is Detail.VALUES else Left(NOT_KEPT)
    return Tensor(held.shape, held.dtype, load)


def _kept(tensor: Tensor) -> Callable[[], array[float]]:
    try:
        return Held(tensor.read())
    except UnknownFact as error:
        return Left(error.unknown)
    except BncheckError as error:
        return Left(Unknown("values", str(error)))


def counted(report: ModelReport, counts: Callable[[Finding], bool]) -> ModelReport:
    """What the summary of many models needs of one that has been told: what counts, not where."""
    found, layers = report.assessment, report.model.layers
    missing = {(each.rule, each.unknown.what): each for each in found.not_assessed}
    return replace(
        report,
        model=replace(report.model, layers=tuple(_of_kind(each.kind) for each in layers)),
        assessment=found._replace(
            findings=tuple(replace(each, evidence={}) for each in found.findings if counts(each)),
            not_assessed=tuple(missing.values()),
        ),
    )


@cache
def _of_kind(kind: Kind | None) -> NormLayer:
    return NormLayer("", kind)


class Held:
    """Gives values that are in memory."""

    def __init__(self, values: array[float]) -> None:
        self._values = values

    def __call__(self) -> array[float]:
        return self._values


class Left:
    """Says why there are no values."""

    def __init__(self, why: Unknown) -> None:
        self._why = why

    def __call__(self) -> array[float]:
        raise UnknownFact(self._why)


NOT_KEPT = Unknown("values", "they were not kept for the report")
