"""Variants of a model that are only run: values become outputs, or are given instead of made.

Rounding errors grow on the way through a deep network, in some until nothing is left to compare.
So every part between two sites is run by itself, on what the original has there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bncheck.folding.arithmetic import LARGEST, Array, rounded, values
from bncheck.folding.onnx import messages
from bncheck.folding.onnx.file import OnnxFile
from bncheck.folding.onnx.wire import Edits, Piece, Rewriter, message, number, text, written
from bncheck.folding.reasons import Blocked
from bncheck.graph import Node
from bncheck.readers.onnx.protobuf import Span
from bncheck.readers.onnx.tensor import DATA_TYPES
from bncheck.tensor import Tensor

GIVEN = "bncheck_given_"
MOST_SHAKEN = 1 << 16  # elements: biases and statistics; weights move with the data that they meet
PARAMETERS = frozenset({"weight", "bias", "running_mean", "running_var"})


@dataclass(frozen=True, slots=True)
class Variant:
    """``also``: values that it gives besides its outputs. ``given``: values that are handed in,
    by name with their dtype, under ``GIVEN`` and their name. ``shake``: how far small parameters
    are moved, relative; each by its own part of it.
    """

    also: Collection[str] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    shake: float = 0.0

    def bytes_of(self, file: OnnxFile) -> bytes:
        """The file of the variant, without external data."""
        edits = Edits()
        self._wire(file, edits)
        if self.shake:
            _shake(file, edits, self.shake)
        pieces = Rewriter(file.source, edits).rewritten(Span(0, file.source.size))
        return b"".join(written(pieces, file.source))

    def _wire(self, file: OnnxFile, edits: Edits) -> None:
        fields: list[Piece] = []
        for name in self.also:
            fields += message(messages.GRAPH_OUTPUT, [text(1, name)])
        for name, dtype in self.given.items():
            fields += _input(GIVEN + name, dtype)
        edits.added[file.graph_span] = fields
        for proto in file.all_nodes() if self.given else ():
            concerned = not self.given.keys().isdisjoint(proto.inputs)
            if concerned and proto.span is not None and file.function_of(proto) is None:
                inputs = [GIVEN + each if each in self.given else each for each in proto.inputs]
                head = messages.node_head(inputs, proto.outputs, None)
                edits.headed[proto.span] = head, messages.NODE_WIRING


def _input(name: str, dtype: str) -> list[Piece]:
    """A tensor of any shape."""
    element = [number(1, DATA_TYPES.index(dtype))]
    kind = message(2, message(1, [*element]))
    return message(messages.GRAPH_INPUT, [text(1, name), *kind])


def _shake(file: OnnxFile, edits: Edits, amount: float) -> None:
    held = {each.name: each for each in file.main.initializers}
    rng = np.random.default_rng(0)
    for name, (node, role) in _small_parameters(file).items():
        array = values(node, role)
        dtype = held[name].dtype if name in held else ""
        if array is None or dtype not in LARGEST or array.shape != held[name].shape:
            continue
        try:
            data = rounded(shaken(array, amount, rng), dtype)
        except Blocked:
            continue
        pieces = messages.tensor(name, array.shape, dtype, messages.raw(data))
        edits.replaced[held[name].span] = message(messages.GRAPH_INITIALIZER, pieces)


def _small_parameters(file: OnnxFile) -> Mapping[str, tuple[Node, str]]:
    """What scales and shifts in the graph, by the names of initializers."""
    found: dict[str, tuple[Node, str]] = {}
    for node, role, name in _parameters(file):
        found.setdefault(name, (node, role))
    return found


def _parameters(file: OnnxFile) -> Iterator[tuple[Node, str, str]]:
    for node, origin in file.origins.items():
        for role, position in origin.positions.items():
            tensor = node.parameters.get(role)
            is_small = isinstance(tensor, Tensor) and tensor.numel <= MOST_SHAKEN
            if is_small and role in PARAMETERS and position < len(origin.proto.inputs):
                yield node, role, origin.proto.inputs[position]


def shaken(array: Array, amount: float, rng: np.random.Generator) -> Array:
    """Every element moved by a random part of ``amount``, relative to it; each channel by another.

    What all of a channel have in common is left where many elements of it are added up.
    """
    channels = array.shape[:2] + (1,) * (array.ndim - 2)
    alone, common = (rng.uniform(-1, 1, shape) for shape in (array.shape, channels))
    return np.asarray(array * (1 + amount * (alone + common)))
