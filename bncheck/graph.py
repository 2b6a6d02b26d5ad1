"""The one graph vocabulary: every format that has a graph lands in these nodes.

Values are named by strings and assigned once. What a node kind means is the same whatever the
format was:

* ``inputs``: the data that flows in, in order, without the parameters; "" where one is absent.
* ``parameters``: the constant tensors by role (``weight``, ``bias``, ``running_mean``,
  ``running_var``), or an Unknown that says why a role has no constant value. A role that is not
  there is absent.
* ``attributes``: under PyTorch's names and in PyTorch's conventions; one that is not known is
  absent. A tuple has one number for each axis that it is about. Axes count from the front where
  the rank is known, else as they are written; those that are said to be negative always are.
* Channels are axis 1 of the data, except for LINEAR, LAYER_NORM and RMS_NORM: the last axis.

What the attributes of each kind are:

* CONV, CONV_TRANSPOSE: ``groups``, ``kernel_size``, ``stride``, ``dilation``, ``padding``,
  ``output_padding`` (transposed only). ``weight`` is (out, in / groups, ...), transposed (in,
  out / groups, ...). ``padding`` has one number for each axis of space, or twice as many where the
  sides differ, all before and then all after; "same" where it depends on the size of the data.
* LINEAR, MATMUL: ``transA``, ``transB``, ``alpha``, ``beta`` of y = alpha * A B + beta * bias; the
  ``weight`` B is (in, out), with ``transB`` (out, in). Without ``beta`` there is no place for a
  bias.
* BATCH_NORM: ``eps``, ``momentum``, ``training``. INSTANCE_NORM: ``eps``, ``momentum``,
  ``use_input_stats``. GROUP_NORM: ``eps``, ``num_groups``. LAYER_NORM, RMS_NORM: ``eps``, ``axis``,
  negative: the first of the normalized ones. LOCAL_RESPONSE_NORM: ``size``, ``alpha``, ``beta``,
  ``k``. Of an ONNX BATCH_NORM also ``version``, that of its operator, and ``outdated``, the names
  of attributes that later versions do without; ``spatial`` is there only where it is False.
* ADD: x + c has none, x - c ``subtract``, c - x ``subtract`` and ``reversed``; the constant c is
  ``bias``. Without one the inputs are added, or the second is subtracted from the first.
  ``alpha`` is a factor on the constant, else on the second input.
* MUL: x * c has none, x / c ``divide``, c / x ``divide`` and ``reversed``; c is ``weight``.
  A constant that is a number is a tensor of shape (). It is broadcast from the last axis on, or
  from ``axis`` on where that is given (ONNX before opset 7).
* ACTIVATION: ``homogeneous`` is True where f(s x) = s f(x) for every s > 0, as RELU is. The
  parameters of the function: ``negative_slope``, ``alpha``, ``beta``, ``min`` and ``max``, infinite
  where there is no such bound; the ``weight`` of prelu, which is along the channels, and of pow.
* DROPOUT: ``p``, ``training``. IDENTITY of a cast: ``dtype``.
* MAX_POOL, AVERAGE_POOL: either a window, with ``kernel_size``, ``stride``, ``dilation``,
  ``padding`` as of CONV, ``ceil_mode``, ``count_include_pad``, ``divisor_override``; or
  ``output_size``, which is 1 where all of space becomes one position, whose axes are gone where
  ``keepdim`` is False; or ``axes`` and ``keepdim`` of a mean over as many of the axes of space.
* RESIZE: ``mode`` ("nearest", "linear", "cubic", "area"), of space alone.
* PAD: ``mode`` ("constant", "reflect", "replicate", "circular"), ``value``, ``axes``, negative, and
  ``padding``: all before these axes, then all after.
* CONCAT: ``axis``.
* SPLIT: into parts, with ``axis`` and ``sizes`` (``keepdim`` is False where parts lose the axis); a
  section, with ``axes``, ``starts``, ``ends``, ``steps``, where ends may lie beyond the data; one
  place, with ``axis`` and ``index``, which loses the axis; several places, with ``axis`` and
  ``indices``. Where sizes are not known there is the number of parts, ``chunks``, or the length of
  all but the last, ``split_size``; where places are computed an ``axis`` alone.
* RESHAPE: the one attribute that it has tells what it is: ``perm``; ``dim0`` and ``dim1``, which
  are swapped in data of unknown rank; ``squeeze`` (None: all axes of size one) or ``unsqueeze``,
  the axes that go or come; ``axis`` and the ``sizes`` into which it is parted;
  ``start_dim`` and ``end_dim``, which are flattened with what is between; ``upscale_factor`` or
  ``downscale_factor`` of a pixel shuffle, with ``mode`` "CRD" (PyTorch) or "DCR"; ``groups`` of a
  channel shuffle; ``shape``, with -1 for "the rest", 0 for "as it was", None for what is computed.
* QUANTIZE: ``axis``.
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

    @property
    def label(self) -> str:
        """What to call it: its name, or the value that it makes where it has none."""
        return self.name or next(filter(None, self.outputs), self.op)


Shape = tuple[int | None, ...]  # None: a dimension that is not a fixed number


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in execution order, subgraphs and local functions inlined.

    ``inputs`` are the values that a caller gives (no initializers). ``shapes`` are those that the
    format states; elsewhere the rank, where it follows from the operations. A graph that is not
    ``complete`` shows true neighbours where it has any, and says nothing of the rest. ``fixed`` are
    nodes that nobody can change or take out of the file, each with the word for a reason that
    folding has.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    complete: bool = True
    fixed: Mapping[Node, str] = field(default_factory=dict)

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
    def kinds(self) -> frozenset[NodeKind]:
        """The kinds of all nodes."""
        return frozenset(node.kind for node in self.nodes)

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
