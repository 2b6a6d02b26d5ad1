"""The new parameters of an ONNX file, those of large weights in parts."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.folding.arithmetic import Array
from bncheck.folding.numbers import NewTensor, Numbers
from bncheck.folding.onnx.file import OnnxFile
from bncheck.folding.onnx.large import LargeWeight, large_weight
from bncheck.folding.plan import FoldPlan
from bncheck.folding.transfer import Shapes


class OnnxNumbers(Numbers):
    """Makes the bytes of new tensors without ever holding a large one whole."""

    def __init__(self, file: OnnxFile, plan: FoldPlan, known: Shapes) -> None:
        super().__init__(plan, known)
        self._file = file

    def parts(self, new: NewTensor) -> Iterator[bytes]:
        """The bytes of a tensor, little-endian, in parts.

        Raises Blocked where they do not fit its dtype.
        """
        large = self._large(new)
        if large is None:
            yield self.make(new)
        else:
            yield from self._in_parts(large, new)

    def _large(self, new: NewTensor) -> LargeWeight | None:
        if new.role == "summand" or (id(new.node), new.role) in self._waiting:
            return None
        return large_weight(self._file, new.node, self._plan.steps[id(new.node)])

    def _in_parts(self, large: LargeWeight, new: NewTensor) -> Iterator[bytes]:
        biases: list[Array] = []
        for weight, bias in large.parts():
            biases += [] if bias is None else [bias]
            if new.role == "weight":
                yield self._rounded(new.node, weight, new.dtype)
        joined = large.joined(biases)
        if new.role == "bias":
            assert joined is not None
            yield self._rounded(new.node, joined, new.dtype)
        elif joined is not None:
            self._wait(new.node, joined)
