"""The size of a value's axes of space, and how much of it a window sees where zeros surround it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bncheck.graph import Graph, Node, NodeKind, Shape
from bncheck.moments.distribution import Floats
from bncheck.tensor import Tensor

Space = tuple[int, ...] | None  # None: not known
SAME = "same"  # as much as keeps the size
LONGEST = 2**16  # positions along an axis


@dataclass(frozen=True, slots=True)
class Window:
    """A window along one axis of space: how it moves, and the zeros before and after the data."""

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def reach(self) -> int:
        """How many positions it covers."""
        return self.dilation * (self.kernel - 1) + 1

    def outputs(self, size: int) -> int:
        """At how many places it stops."""
        return max((size + self.before + self.after - self.reach) // self.stride + 1, 0)

    def shares(self, size: int) -> Floats:
        """For each tap the share of its places at which it sees data; ones without any place."""
        places = self.outputs(size)
        return self._inside(places, size) / places if places else np.ones(self.kernel)

    def made(self, size: int, added: int = 0) -> int:
        """The size that a transposed convolution makes."""
        return (size - 1) * self.stride - self.before - self.after + self.reach + added

    def transposed_shares(self, size: int, added: int = 0) -> Floats:
        """For each tap the share of the outputs that it adds to, in a transposed convolution."""
        made = max(self.made(size, added), 1)
        return self._inside(size, made) / made

    def _inside(self, places: int, size: int) -> Floats:
        """For each tap at how many of its places it lies within so many positions."""
        begin = self.before - np.arange(self.kernel) * self.dilation
        first = np.maximum(-(-begin // self.stride), 0)
        last = np.minimum((begin + size - 1) // self.stride, places - 1)
        return np.asarray(np.maximum(last - first + 1, 0), np.float64)


def windows(
    node: Node, rank: int, space: Space, border: tuple[int, ...] = (), padding: object = None
) -> list[Window]:
    """The window of a convolution or pooling along each axis of space; empty where not known.

    ``border`` are zeros that are there before those that the node adds; ``padding`` stands in where
    the node does not say what it adds.
    """
    kernel, padding = _each(node, "kernel_size", rank), node.attributes.get("padding", padding)
    stride, dilation = _each(node, "stride", rank, 1), _each(node, "dilation", rank, 1)
    if kernel is None or stride is None or dilation is None or min(stride) < 1:
        return []
    same = padding == SAME
    sides = _same(kernel, stride, dilation, space) if same else _sides(padding, rank)
    if sides is None:
        return []
    extra = border or (0,) * (2 * rank)
    return [
        Window(
            kernel[i],
            stride[i],
            dilation[i],
            sides[i] + extra[i],
            sides[rank + i] + extra[rank + i],
        )
        for i in range(rank)
    ]


def _each(node: Node, name: str, rank: int, default: int | None = None) -> tuple[int, ...] | None:
    """One number for each axis."""
    value, weight = node.attributes.get(name), node.parameters.get("weight")
    if name == "kernel_size" and isinstance(weight, Tensor):
        value = weight.shape[2:]
    if value is None and default is not None:
        return (default,) * rank
    return value if isinstance(value, tuple) and len(value) == rank and _are_sizes(value) else None


def _are_sizes(values: tuple[object, ...]) -> bool:
    return all(type(value) is int and 0 <= value <= LONGEST for value in values)


def _sides(padding: object, rank: int) -> tuple[int, ...] | None:
    if not isinstance(padding, tuple) or len(padding) not in (rank, 2 * rank):
        return None
    if not _are_sizes(padding):
        return None
    return padding if len(padding) == 2 * rank else padding * 2


def _same(
    kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], space: Space
) -> tuple[int, ...] | None:
    if space is None:
        return None
    totals = [
        max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        for k, s, d, size in zip(kernel, stride, dilation, space, strict=True)
    ]
    return (*(t // 2 for t in totals), *(t - t // 2 for t in totals))


class Sizes:
    """The number of channels and the axes of space of each value, where they are known."""

    def __init__(self, graph: Graph) -> None:
        self._shapes = graph.shapes
        self._spaces = {value: self._given(value) for value in graph.inputs}
        self._widths = {value: self._given_width(value) for value in graph.inputs}

    def space(self, value: str) -> Space:
        """The sizes of the axes of space."""
        return self._spaces.get(value)

    def width(self, value: str) -> int | None:
        """The number of channels, which are taken for axis 1."""
        return self._widths.get(value)

    def shape(self, value: str) -> Shape:
        """The whole shape, as far as it is known; empty where not even the rank is."""
        shape = self._shapes.get(value, ())
        space, width = self._spaces.get(value), self._widths.get(value)
        if space is not None and len(space) == len(shape) - 2:
            return (shape[0], width, *space)
        return shape

    def note(self, node: Node) -> None:
        """Take note of what a node makes."""
        space, width = self._after(node), self._width_after(node)
        for value in node.outputs:
            self._spaces[value] = self._given(value) or space
            self._widths[value] = self._given_width(value) or width

    def _given(self, value: str) -> Space:
        shape = self._shapes.get(value, ())[2:]
        known = tuple(size for size in shape if size is not None)
        return known if shape and len(known) == len(shape) and max(known) <= LONGEST else None

    def _given_width(self, value: str) -> int | None:
        shape = self._shapes.get(value, ())
        return shape[1] if len(shape) > 2 else None

    def _after(self, node: Node) -> Space:
        """The widest of several: one of size 1 is broadcast."""
        data = node.inputs if node.kind in SEVERAL else node.inputs[:1]
        known = [space for each in data if (space := self._spaces.get(each)) is not None]
        rule = _RULES.get(node.kind)
        made = rule(node, max(known)) if rule and known and len(known) == len(data) else None
        return made if made and min(made) > 0 and max(made) <= LONGEST else None

    def _width_after(self, node: Node) -> int | None:
        weight = node.parameters.get("weight")
        if node.kind in CONVOLUTIONS:
            return _made_by(node, weight.shape) if isinstance(weight, Tensor) else None
        data = node.inputs if node.kind in SEVERAL else node.inputs[:1]
        known = [width for each in data if (width := self._widths.get(each)) is not None]
        if node.kind not in _RULES or not known or len(known) < len(data):
            return None
        if node.kind is NodeKind.CONCAT:
            return sum(known) if node.attributes.get("axis") == 1 else None
        return max(known)


def _made_by(node: Node, shape: tuple[int, ...]) -> int | None:
    """The number of channels that a convolution makes."""
    if node.kind is NodeKind.CONV:
        return shape[0] if shape else None
    groups = node.attributes.get("groups", 1)
    return shape[1] * groups if isinstance(groups, int) and len(shape) > 1 else None


def _as_before(node: Node, space: tuple[int, ...]) -> Space:
    return space


def _windowed(node: Node, space: tuple[int, ...]) -> Space:
    """Pooling without a window makes one place of all."""
    if node.attributes.get("output_size") == 1:
        return (1,) * len(space) if node.attributes.get("keepdim", True) else None
    if node.attributes.get("ceil_mode"):
        return None
    along = windows(node, len(space), space)
    return tuple(w.outputs(size) for w, size in zip(along, space, strict=False)) or None


def _transposed(node: Node, space: tuple[int, ...]) -> Space:
    added = _each(node, "output_padding", len(space), 0)
    along = windows(node, len(space), space)
    if added is None or not along:
        return None
    return tuple(w.made(s, a) for w, s, a in zip(along, space, added, strict=True))


def _padded(node: Node, space: tuple[int, ...]) -> Space:
    border = border_of(node, len(space))
    if border is None:
        return None
    half = len(space)
    return tuple(size + border[i] + border[half + i] for i, size in enumerate(space))


def border_of(node: Node, rank: int) -> tuple[int, ...] | None:
    """What a PAD adds before and after each axis of space; None where it adds to others too."""
    axes, sides = node.attributes.get("axes"), node.attributes.get("padding")
    if not isinstance(axes, tuple) or not isinstance(sides, tuple) or len(sides) != 2 * len(axes):
        return None
    if not all(type(axis) is int and -rank <= axis < 0 for axis in axes) or not _are_sizes(sides):
        return None
    border = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        border[rank + axis], border[2 * rank + axis] = sides[i], sides[len(axes) + i]
    return tuple(border)


SEVERAL = frozenset({NodeKind.ADD, NodeKind.MUL, NodeKind.CONCAT})  # inputs that are all data
CONVOLUTIONS = frozenset({NodeKind.CONV, NodeKind.CONV_TRANSPOSE})
_KEEP = (
    "BATCH_NORM INSTANCE_NORM GROUP_NORM LAYER_NORM RMS_NORM LOCAL_RESPONSE_NORM RELU ACTIVATION "
    "DROPOUT IDENTITY QUANTIZE ADD MUL CONCAT"
)
_RULES: dict[NodeKind, Callable[[Node, tuple[int, ...]], Space]] = {
    **{NodeKind[name]: _as_before for name in _KEEP.split()},
    NodeKind.CONV: _windowed,
    NodeKind.MAX_POOL: _windowed,
    NodeKind.AVERAGE_POOL: _windowed,
    NodeKind.CONV_TRANSPOSE: _transposed,
    NodeKind.PAD: _padded,
}
