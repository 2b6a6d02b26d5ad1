"""bncheck: a linter for the normalization layers of PyTorch and ONNX models.

Importing it imports neither torch, onnx nor numpy; each public name is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bncheck.api import check as check
    from bncheck.api import inspect as inspect
    from bncheck.errors import BncheckError as BncheckError
    from bncheck.errors import CannotFold as CannotFold
    from bncheck.errors import ConfigurationError as ConfigurationError
    from bncheck.errors import NotAModel as NotAModel
    from bncheck.errors import UnhealthyModel as UnhealthyModel
    from bncheck.errors import UnreadableModel as UnreadableModel
    from bncheck.facts import UnknownFact as UnknownFact
    from bncheck.finding import Finding as Finding
    from bncheck.finding import Level as Level
    from bncheck.folding import fold as fold
    from bncheck.folding import verify as verify
    from bncheck.folding.result import FoldResult as FoldResult
    from bncheck.model import Model as Model
    from bncheck.model import NormLayer as NormLayer
    from bncheck.report import Report as Report

_HOME = {
    "check": "api",
    "inspect": "api",
    "fold": "folding",
    "verify": "folding",
    "BncheckError": "errors",
    "CannotFold": "errors",
    "ConfigurationError": "errors",
    "NotAModel": "errors",
    "UnhealthyModel": "errors",
    "UnreadableModel": "errors",
    "UnknownFact": "facts",
    "FoldResult": "folding.result",
    "Finding": "finding",
    "Level": "finding",
    "Model": "model",
    "NormLayer": "model",
    "Report": "report",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'bncheck' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"bncheck.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
