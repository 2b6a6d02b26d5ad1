"""Tensors in chunks, each of them a file of torch.save within a larger file."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.readers.source import Source
from bncheck.readers.torch import zipped
from bncheck.readers.torch.storage import Budget
from bncheck.readers.torch.values import parameter
from bncheck.tensor import Tensor

MAX_OPENED = 20_000
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a chunk lies; ``key`` tells it from others. Not plain: compressed, or the like."""

    source: Source
    key: tuple[str, int]
    is_plain: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """A block of a tensor: where it begins and how long it is, along each axis."""

    offsets: Shape
    sizes: Shape
    stored: Stored


class ChunkBudget(Budget):
    """Counts also how many chunks are opened: each is an archive of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks = MAX_OPENED

    def open(self, chunks: int) -> None:
        """Open so many chunks; raises UnknownFact where it were too many."""
        self._chunks -= chunks
        if self._chunks < 0:
            raise UnknownFact(
                Unknown("values", f"{MAX_OPENED} chunks of tensors were read already")
            )


def tensor(
    name: str, shape: Shape, dtype: str, chunks: Sequence[Chunk], budget: ChunkBudget
) -> Tensor:
    """The tensor that chunks make. Raises UnreadableModel where they do not cover it once."""
    inside = all(_is_inside(chunk, shape) for chunk in chunks)
    filled = [chunk for chunk in chunks if prod(chunk.sizes)]
    if not inside or sum(prod(chunk.sizes) for chunk in filled) != prod(shape):
        raise UnreadableModel(f"has chunks that do not make up {name!r}: damaged")

    def load() -> array[float]:
        in_blocks = all(_axis(chunk, shape) == 0 for chunk in filled)
        budget.decode(prod(shape), in_blocks)
        budget.open(len(filled))
        parts = [(chunk, _values(name, dtype, chunk)) for chunk in filled]
        return parts[0][1] if len(parts) == 1 else _assembled(name, shape, parts)

    return Tensor(shape, dtype, load, storage=tuple(chunk.stored.key for chunk in chunks))


def _is_inside(chunk: Chunk, shape: Shape) -> bool:
    if not len(chunk.offsets) == len(chunk.sizes) == len(shape):
        return False
    ends = map(sum, zip(chunk.offsets, chunk.sizes, strict=True))
    return all(end <= length for end, length in zip(ends, shape, strict=True))


def _values(name: str, dtype: str, chunk: Chunk) -> array[float]:
    if not chunk.stored.is_plain:
        raise UnknownFact(Unknown("values", "they are stored compressed, or changed otherwise"))
    value, storages = zipped.load(chunk.stored.source)
    held = parameter(value, storages)
    found = held.tensor if held else None
    if not isinstance(found, Tensor) or (found.shape, found.dtype) != (chunk.sizes, dtype):
        raise UnreadableModel(f"stores something else than its metadata says for {name!r}")
    return found.values


def _assembled(
    name: str, shape: Shape, parts: Sequence[tuple[Chunk, array[float]]]
) -> array[float]:
    whole: array[float] = array(parts[0][1].typecode if parts else "d")
    whole.frombytes(bytes(whole.itemsize * prod(shape)))
    seen = bytearray(prod(shape))
    for chunk, values in parts:
        length = prod(chunk.sizes[_axis(chunk, shape) :])
        for row, begin in enumerate(_blocks(chunk, shape)):
            whole[begin : begin + length] = values[row * length : (row + 1) * length]
            seen[begin : begin + length] = b"\1" * length
    if seen.count(0):
        raise UnreadableModel(f"has chunks of {name!r} that overlap: damaged")
    return whole


def _axis(chunk: Chunk, shape: Shape) -> int:
    """The last axis along which a chunk is only a part; from there on it lies in one block."""
    parts = [axis for axis, size in enumerate(chunk.sizes) if size != shape[axis]]
    return parts[-1] if parts else 0


def _blocks(chunk: Chunk, shape: Shape) -> Iterator[int]:
    """Where in the whole tensor each block of a chunk begins."""
    axis = _axis(chunk, shape)
    strides = [prod(shape[each + 1 :]) for each in range(len(shape))]
    ranges = zip(chunk.offsets[:axis], chunk.sizes[:axis], strict=True)
    leading = [range(begin, begin + length) for begin, length in ranges]
    for place in itertools.product(*leading):
        indices = (*place, *chunk.offsets[axis : axis + 1])
        yield sum(i * stride for i, stride in zip(indices, strides, strict=False))
