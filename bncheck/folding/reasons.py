"""Why a BatchNorm stays: the closed list."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bncheck.graph import Node


class Reason(StrEnum):
    """What stands in the way of a fold. The value is stable; ``text`` is for people."""

    READ_ELSEWHERE = "read-elsewhere"
    MODEL_INPUT = "model-input"
    MODEL_OUTPUT = "model-output"
    ACTIVATION = "activation"
    PADDING = "padding"
    NO_BIAS = "no-bias"
    OPERATOR = "operator"
    COMPUTED = "computed-parameters"
    SHARED = "shared-parameters"
    CHANNELS = "channels"
    NO_SHAPE = "no-shape"
    TRAINING = "training"
    BATCH_STATISTICS = "batch-statistics"
    NOT_FINITE = "not-finite"
    QUANTIZED = "quantized"
    PRECISION = "precision"
    OVERRIDABLE = "overridable"
    SEVERAL_CALLS = "several-calls"
    FUNCTIONAL = "functional"
    HOOKED = "hooked"
    CODE = "code-depends"
    NO_ORDER = "no-order"
    NOT_CALLED = "not-called"
    TOO_FAR = "too-far"

    @property
    def text(self) -> str:
        """One clause."""
        return _TEXTS[self]


_TEXTS = {
    Reason.READ_ELSEWHERE: "what it would be folded into is read elsewhere too",
    Reason.MODEL_INPUT: "the model's own input comes directly before it",
    Reason.MODEL_OUTPUT: "a value on the way is an output of the model",
    Reason.ACTIVATION: "a non-linear function is in the way",
    Reason.PADDING: "zero padding lets no shift through",
    Reason.NO_BIAS: "the operator before it has no place for a shift",
    Reason.OPERATOR: "an operator is in the way that no per-channel scale passes",
    Reason.COMPUTED: "the parameters are computed in the graph, not stored",
    Reason.SHARED: "the parameters are used elsewhere too",
    Reason.CHANNELS: "its channels cannot be followed to an axis of the weight",
    Reason.NO_SHAPE: "how many axes a value has is not known, so that any may be the last",
    Reason.TRAINING: "it is in training mode",
    Reason.BATCH_STATISTICS: "it has no running statistics",
    Reason.NOT_FINITE: "its parameters give no finite scale and shift",
    Reason.QUANTIZED: "a quantized value is in the way",
    Reason.PRECISION: "the folded parameters do not fit into their dtype",
    Reason.OVERRIDABLE: "a parameter can be overridden by the caller",
    Reason.SEVERAL_CALLS: "it is called in several places that do not agree",
    Reason.FUNCTIONAL: "it is a line of code of the module, which folding leaves as it is",
    Reason.HOOKED: "a hook of the module sees the values that folding changes",
    Reason.CODE: "the model's code does something else where it is gone",
    Reason.NO_ORDER: "the file does not tell what comes before it",
    Reason.NOT_CALLED: "the model never calls it",
    Reason.TOO_FAR: "nothing that absorbs it is near",
}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A reason, and the node at which it was met (None: the BatchNorm itself)."""

    reason: Reason
    node: Node | None = None

    def __str__(self) -> str:
        return self.reason.text + (f" ({self.node.op} {self.node.label})" if self.node else "")


class Blocked(Exception):
    """A map cannot go on from here."""

    def __init__(self, reason: Reason, node: Node | None = None) -> None:
        super().__init__(reason.text)
        self.obstacle = Obstacle(reason, node)
