"""New values of large weights, some rows at a time, so that few of them are in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bncheck.folding.absorb import Side, Step
from bncheck.folding.arguments import flag, integer
from bncheck.folding.arithmetic import Array, Parameters, change, values
from bncheck.folding.onnx.file import OnnxFile
from bncheck.folding.onnx.places import place_of, sibling_of
from bncheck.folding.reasons import Blocked, Reason
from bncheck.graph import Node, NodeKind
from bncheck.readers.onnx.tensor import TensorProto
from bncheck.readers.source import Source
from bncheck.tensor import DTYPES, decode

LARGE = 1 << 21  # elements, from which a weight is made in parts
AT_ONCE = 1 << 20  # elements of a part
Numbers = tuple[Side, Array, Array]


@dataclass(frozen=True, slots=True)
class Stored:
    """A weight where it lies: its bytes from ``begin`` on, in row-major order."""

    source: Source
    begin: int
    dtype: str
    shape: tuple[int, ...]

    def rows(self, begin: int, end: int) -> Array:
        """Some of axis 0, float64."""
        row = math.prod(self.shape[1:]) * DTYPES[self.dtype][0]
        data = self.source.read(self.begin + begin * row, (end - begin) * row)
        return np.array(decode(data, self.dtype), np.float64).reshape(-1, *self.shape[1:])


@dataclass(frozen=True, slots=True)
class LargeWeight:
    """The weight of a node, and what it takes in. ``transposed``: as of ``Origin``."""

    node: Node
    steps: Sequence[Step]
    stored: Stored
    transposed: bool

    def parts(self) -> Iterator[tuple[Array, Array | None]]:
        """Rows of the new weight as it is stored, and what the bias gets from them.

        Raises Blocked where a number is not finite.
        """
        numbers = [
            (step.side, np.array(step.map.scale()), np.array(step.map.shift()))
            for step in self.steps
        ]
        count = self.stored.shape[0]
        rows = max(AT_ONCE // math.prod(self.stored.shape[1:]), 1)
        for begin in range(0, count, rows):
            held = self._part(begin, min(begin + rows, count), numbers)
            assert held.weight is not None
            arrays = (held.weight, *([] if held.bias is None else [held.bias]))
            if not all(np.isfinite(array).all() for array in arrays):
                raise Blocked(Reason.NOT_FINITE, self.node)
            yield held.weight.T if self.transposed else held.weight, held.bias

    def joined(self, biases: Sequence[Array]) -> Array | None:
        """The bias of all parts: one after the other, or added up where rows are inputs."""
        if not biases:
            return None
        return np.concatenate(biases, axis=-1) if self._rows_are_outputs else np.sum(biases, axis=0)

    @property
    def _rows_are_outputs(self) -> bool:
        is_matrix = self.node.kind is NodeKind.LINEAR
        return not is_matrix or flag(self.node, "transB") is not self.transposed

    def _part(self, begin: int, end: int, numbers: Sequence[Numbers]) -> Parameters:
        weight = self.stored.rows(begin, end)
        held = Parameters(weight.T if self.transposed else weight, self._bias_of(begin, end))
        for side, scale, shift in numbers:
            if self._rows_are_outputs is (side is Side.OUTPUT):
                scale, shift = scale[begin:end], shift[begin:end]
            elif side is Side.OUTPUT and begin:  # it is added once
                shift = np.zeros_like(shift)
            change(self.node, held, side, scale, shift)
        return held

    def _bias_of(self, begin: int, end: int) -> Array | None:
        bias = values(self.node, "bias")
        if bias is None or not self._rows_are_outputs:
            return None if bias is None or begin else bias
        return bias[..., begin:end] if bias.ndim and bias.shape[-1] > 1 else bias


def large_weight(file: OnnxFile, node: Node, steps: Sequence[Step]) -> LargeWeight | None:
    """A weight that is worth parts, and can be made in them; None for others."""
    origin = file.origins.get(node)
    if origin is None or not _is_plain(node, steps):
        return None
    position = origin.positions.get("weight", len(origin.proto.inputs))
    names = origin.proto.inputs[position : position + 1]
    tensor = next((each for each in file.initializers() if [each.name] == names), None)
    if tensor is None or math.prod(tensor.shape) < LARGE or tensor.dtype not in DTYPES:
        return None
    stored = _stored(file, tensor)
    return None if stored is None else LargeWeight(node, steps, stored, origin.transposed)


def _is_plain(node: Node, steps: Sequence[Step]) -> bool:
    if any(step.side is Side.PARALLEL for step in steps):
        return False
    return node.kind is NodeKind.LINEAR or (
        node.kind is NodeKind.CONV and integer(node, "groups") == 1
    )


def _stored(file: OnnxFile, tensor: TensorProto) -> Stored | None:
    if tensor.external is not None:
        place = place_of(file.source, tensor)
        sibling = sibling_of(file.source, place.location)
        return Stored(sibling, place.offset, tensor.dtype, tensor.shape)
    if tensor.raw is None or tensor.sparse or tensor.segmented:
        return None
    return Stored(file.source, tensor.raw.begin, tensor.dtype, tensor.shape)
