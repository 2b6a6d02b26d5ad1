"""The new parameters of a plan, made when they are written: few of them are in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bncheck.folding.absorb import output_channels
from bncheck.folding.arithmetic import LARGEST, Array, new_parameters, rounded
from bncheck.folding.plan import FoldPlan
from bncheck.folding.reasons import Blocked, Reason
from bncheck.folding.transfer import CHANNELS, Shapes
from bncheck.graph import Node
from bncheck.tensor import DTYPES, Tensor

SMALL = 1 << 20  # bytes that may wait until they are written


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A tensor to be written: what it is for, its shape and dtype.

    ``transposed``: it is written as the transpose of the parameter.
    """

    node: Node
    role: str
    shape: tuple[int, ...]
    dtype: str
    transposed: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * DTYPES[self.dtype][0]


class Numbers:
    """Makes the bytes of new tensors."""

    def __init__(self, plan: FoldPlan, known: Shapes) -> None:
        self._plan = plan
        self._shapes = known
        self._waiting: dict[tuple[int, str], bytes] = {}

    def tensors(self, node: Node, transposed: bool) -> Iterator[NewTensor]:
        """The parameters that a node gets. Raises Blocked for a dtype that is not written."""
        for role in self._roles(node):
            shape, dtype = self._form(node, role)
            turned = transposed and role == "weight"
            yield NewTensor(node, role, shape[::-1] if turned else shape, dtype, turned)

    def _roles(self, node: Node) -> list[str]:
        steps = self._plan.steps[id(node)]
        held = [role for role in ("weight", "bias") if role in node.parameters]
        shifts = any(step.map.has_shift for step in steps)
        return held if "bias" in held or not shifts else [*held, "bias"]

    def _form(self, node: Node, role: str) -> tuple[tuple[int, ...], str]:
        tensor = node.parameters.get(role, node.parameters.get("weight"))
        assert isinstance(tensor, Tensor)
        if tensor.dtype not in LARGEST:
            raise Blocked(Reason.PRECISION, node)
        return (tensor.shape if role == "weight" else _bias_shape(node)), tensor.dtype

    def make(self, new: NewTensor) -> bytes:
        """The bytes of a tensor, little-endian. Raises Blocked where they do not fit its dtype."""
        if new.role == "summand":
            return rounded(np.array(self._plan.sums[new.node].shift()), new.dtype)
        key = id(new.node), new.role
        if key in self._waiting:
            return self._waiting.pop(key)
        made = self._arrays(new.node)
        if new.role != "bias" and "bias" in made and made["bias"].nbytes <= SMALL:
            self._wait(new.node, made["bias"])
        array = made[new.role].T if new.transposed else made[new.role]
        return self._rounded(new.node, array, new.dtype)

    def _wait(self, node: Node, bias: Array) -> None:
        """Keep what came of the weight until it is asked for."""
        self._waiting[id(node), "bias"] = self._rounded(node, bias, self._form(node, "bias")[1])

    def _arrays(self, node: Node) -> Mapping[str, Array]:
        return new_parameters(node, self._plan.steps[id(node)])

    def _rounded(self, node: Node, array: Array, dtype: str) -> bytes:
        try:
            return rounded(array, dtype)
        except Blocked as blocked:
            raise Blocked(blocked.obstacle.reason, node) from None

    def summand(self, node: Node) -> NewTensor:
        """What a BatchNorm adds that becomes a sum, shaped for its axis."""
        (into,) = (fold.into[0] for fold in self._plan.folds if fold.node is node)
        weight, m = into.parameters["weight"], self._plan.sums[node]
        assert isinstance(weight, Tensor)
        rank = len(self._shapes[node.inputs[0]])
        shape = (*m.sizes, *[1] * (rank - 1 - CHANNELS))
        return NewTensor(node, "summand", shape, weight.dtype)


def _bias_shape(node: Node) -> tuple[int, ...]:
    """One number for all channels of a matrix product becomes one for each."""
    bias, channels = node.parameters.get("bias"), output_channels(node)
    if not isinstance(bias, Tensor):
        assert channels is not None
        return (channels,)
    return np.broadcast_shapes(bias.shape, (channels,)) if channels else bias.shape
