"""The facts that checks reason about: models and their normalization layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal, get_args

from bncheck.facts import Evidence, Fact, Facts, Unknown, UnknownFact
from bncheck.graph import Graph, Node
from bncheck.tensor import Tensor

Kind = Literal[
    "batch", "sync-batch", "frozen-batch", "instance", "group", "layer", "rms", "local-response"
]
Content = Literal["state_dict", "checkpoint", "module", "graph"]

KINDS: tuple[Kind, ...] = get_args(Kind)
BATCH_KINDS: frozenset[Kind] = frozenset({"batch", "sync-batch", "frozen-batch"})

T, F, G, M = Evidence.TENSORS, Evidence.FLAGS, Evidence.GRAPH, Evidence.METADATA


@dataclass(frozen=True, eq=False)
class NormLayer(Facts):
    """One normalization layer under its qualified name; what is unknown of it is an Unknown.

    ``kind`` is None where the file shows a normalization layer but not which. ``momentum`` is in
    PyTorch's convention (the weight of the new batch) and None for a cumulative average; ``eps``
    is None where the library picks it from the dtype. Tensors are None where the layer has none.
    """

    name: str
    kind: Kind | None
    class_path: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict, repr=False)

    num_features = Fact[int]("num_features", F, T)
    num_groups = Fact[int]("num_groups", F, G)  # of a GroupNorm
    eps = Fact[float | None]("eps", F, G, M)
    momentum = Fact[float | None]("momentum", F, G)
    affine = Fact[bool]("affine", F, G)
    track_running_stats = Fact[bool]("track_running_stats", F)
    training = Fact[bool]("mode", F, G)
    has_running_stats = Fact[bool]("mode", F, G)  # False: normalizes with the batch's, always
    requires_grad = Fact[bool]("requires_grad", F)  # of any of weight and bias
    running_mean = Fact[Tensor | None]("running_mean", T)
    running_var = Fact[Tensor | None]("running_var", T)
    num_batches_tracked = Fact[Tensor | None]("batch counter", T)
    weight = Fact[Tensor | None]("weight", T)
    bias = Fact[Tensor | None]("bias", T)
    foreign_names = Fact[Mapping[str, str]]("names", T)  # by role, where not called after it
    calls = Fact[tuple[Node, ...]]("order", G)

    @property
    def is_batch_norm(self) -> bool:
        """Whether it belongs to the batch family (Batch, SyncBatch, frozen)."""
        return self.kind in BATCH_KINDS

    @property
    def counter(self) -> int | None:
        """num_batches_tracked as a number, None where the layer has no counter.

        Raises UnknownFact where it holds NaN or infinity.
        """
        tensor = self.num_batches_tracked
        if tensor is None or tensor.numel == 0:
            return None
        if not isfinite(tensor.values[0]):
            raise UnknownFact(Unknown("batch counter", "it is no number"))
        return int(tensor.values[0])


@dataclass(frozen=True, slots=True)
class BatchSize:
    """Samples per device from which training took its statistics, and where that is written."""

    samples: int
    source: str
    positions: int | None = None  # H·W, where known


OPTIMIZER_INSTEAD = "give the training checkpoint, with its optimizer's state"
NO_BATCH_SIZE = Unknown(
    "batch size",
    "no batch size in this file",
    "give the training checkpoint, with its hyper-parameters",
)


@dataclass(frozen=True, eq=False)
class Model(Facts):
    """One model of a file or one live object: everything that checks may ask.

    ``format`` is the container ("torch-zip", "onnx", ...), ``member`` tells apart the models of
    one file, ``holds`` says in words what else is in it. ``training_state`` says what makes it a
    training checkpoint, ``loader_calls_eval`` who switches it to eval mode after loading.
    ``statistics_gone`` says why a model without BatchNorm proves nothing about statistics.
    """

    format: str
    content: Content
    layers: tuple[NormLayer, ...]
    evidence: frozenset[Evidence]
    member: str | None = None
    holds: str = ""
    training_state: str | None = None
    loader_calls_eval: str | None = None
    statistics_gone: Unknown | None = None
    facts: Mapping[str, object] = field(default_factory=dict, repr=False)

    graph = Fact[Graph]("graph", G)  # complete
    order = Fact[Graph]("order", G)  # may be incomplete: true neighbours where it has any
    batch_size = Fact[BatchSize]("batch size", M, G)
    # of parameters by qualified name; of one that is not there it is uncertain
    weight_decay = Fact[Mapping[str, float]]("weight decay", M, instead=OPTIMIZER_INSTEAD)
    # of what it keeps for each parameter
    optimizer_dtypes = Fact[frozenset[str]]("optimizer", M, instead=OPTIMIZER_INSTEAD)

    @property
    def batch_norms(self) -> tuple[NormLayer, ...]:
        """The layers of the batch family."""
        return tuple(layer for layer in self.layers if layer.is_batch_norm)
