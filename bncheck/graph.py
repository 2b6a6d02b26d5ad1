"""The one graph vocabulary: every format that has a graph lands in these nodes.

Values are named by strings and assigned once. What a node kind means is the same whatever the
format was:

* ``inputs``: the data that flows in, in order, without the parameters; "" where one is absent.
* ``parameters``: the constant tensors by role (``weight``, ``bias``, ``running_mean``,
  ``running_var``), or an Unknown that says why a role has no constant value. A role that is not
  there is absent.
* ``attributes``: under PyTorch's names and in PyTorch's conventions (``eps``, ``momentum``,
  ``training``, ``p``, ``groups``, ``axis``); one that is not known is absent.
* Channels are axis 1 of the data, except for LINEAR, LAYER_NORM and RMS_NORM: the last axis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from bncheck.facts import Unknown
from bncheck.tensor import Tensor


class NodeKind(StrEnum):
    """The closed list of what a node can be."""

    CONV = "conv"
    CONV_TRANSPOSE = "conv-transpose"
    LINEAR = "linear"  # Gemm, or MatMul with one constant side
    MATMUL = "matmul"  # both sides are data
    BATCH_NORM = "batch-norm"
    INSTANCE_NORM = "instance-norm"
    GROUP_NORM = "group-norm"
    LAYER_NORM = "layer-norm"
    RMS_NORM = "rms-norm"
    LOCAL_RESPONSE_NORM = "local-response-norm"
    ADD = "add"  # Sub too
    MUL = "mul"  # Div too
    RELU = "relu"
    ACTIVATION = "activation"  # any other elementwise function of one value
    DROPOUT = "dropout"
    IDENTITY = "identity"  # Cast too
    MAX_POOL = "max-pool"
    AVERAGE_POOL = "average-pool"  # global pooling and a mean over space too
    RESIZE = "resize"
    PAD = "pad"
    CONCAT = "concat"
    SPLIT = "split"  # Slice, Gather too
    RESHAPE = "reshape"  # Flatten, Squeeze, Unsqueeze, Transpose, DepthToSpace
    QUANTIZE = "quantize"  # DequantizeLinear and FakeQuantize too
    SHAPE = "shape"  # reads the shape only
    OPAQUE = "opaque"  # anything else


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation; ``op`` is the format's own name for it ("Conv", "aten.conv2d")."""

    kind: NodeKind
    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[str, Tensor | Unknown] = field(default_factory=dict)
    attributes: Mapping[str, object] = field(default_factory=dict)


Shape = tuple[int | None, ...]  # None: a dimension that is not a fixed number


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in execution order, subgraphs and local functions inlined.

    ``inputs`` are the values that a caller gives (no initializers). A graph that is not
    ``complete`` shows true neighbours where it has any, and says nothing of the rest.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    complete: bool = True

    def producer(self, value: str) -> Node | None:
        """The node that makes a value; None for an input or a constant."""
        return self._producers.get(value)

    def consumers(self, value: str) -> tuple[Node, ...]:
        """The nodes that read a value, in order; being a graph output counts in ``uses``."""
        return tuple(self._consumers.get(value, ()))

    def uses(self, value: str) -> int:
        """How often a value is read: by nodes, and as an output; reading its shape is no use."""
        readers = self._consumers.get(value, ())
        return sum(n.kind is not NodeKind.SHAPE for n in readers) + self.outputs.count(value)

    def depends_on_input(self, value: str) -> bool:
        """Whether a value changes with what the caller gives."""
        return value in self._data_dependent

    def downstream(self, value: str) -> Iterator[Node]:
        """The nodes that read a value, with multiplicity one."""
        seen: set[int] = set()
        for node in self.consumers(value):
            if id(node) not in seen:
                seen.add(id(node))
                yield node

    def holders(self, tensor: Tensor) -> int:
        """How many nodes have a tensor, or another view of its storage, as a parameter."""
        return self._holders[_storage(tensor)]

    @cached_property
    def _holders(self) -> Counter[Hashable]:
        return Counter(key for node in self.nodes for key in set(_storages(node)))

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return {value: node for node in self.nodes for value in node.outputs if value}

    @cached_property
    def _consumers(self) -> dict[str, list[Node]]:
        consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                consumers.setdefault(value, []).append(node)
        return consumers

    @cached_property
    def _data_dependent(self) -> frozenset[str]:
        dependent = set(self.inputs)
        for node in self.nodes:
            if node.kind is not NodeKind.SHAPE and not dependent.isdisjoint(node.inputs):
                dependent.update(node.outputs)
        return frozenset(dependent - {""})


def _storages(node: Node) -> Iterator[Hashable]:
    return (_storage(held) for held in node.parameters.values() if isinstance(held, Tensor))


def _storage(tensor: Tensor) -> Hashable:
    return id(tensor) if tensor.storage is None else tensor.storage
