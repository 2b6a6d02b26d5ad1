"""What is reckoned with where a file does not tell: the defaults of torch.nn.BatchNorm2d."""

from __future__ import annotations

from bncheck.model import NormLayer

EPS = 1e-5
MOMENTUM = 0.1


def eps_or_default(layer: NormLayer) -> float:
    """eps, or its default where it is not known."""
    eps = layer.get(NormLayer.eps, None)
    return EPS if eps is None else eps


def eps_evidence(layer: NormLayer) -> dict[str, object]:
    """The eps that was reckoned with, and whether it is an assumption."""
    return {"eps": eps_or_default(layer), "eps_assumed": not layer.knows(NormLayer.eps)}


def momentum_or_default(layer: NormLayer) -> float | None:
    """momentum, or its default where it is not known; None for a cumulative average."""
    return layer.get(NormLayer.momentum, MOMENTUM)


def momentum_evidence(layer: NormLayer) -> dict[str, object]:
    """The momentum that was reckoned with, and whether it is an assumption."""
    assumed = not layer.knows(NormLayer.momentum)
    return {"momentum": momentum_or_default(layer), "momentum_assumed": assumed}
