"""The storages that PyTorch's pickles refer to, and the tensors that are views of them."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, Protocol

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.readers.limits import ElementBudget
from bncheck.readers.torch.pickle_values import Global, Instance, PersistentId, Value
from bncheck.tensor import ByteOrder, Tensor, decode, itemsize

MAX_STEPS = 200_000  # tensors and modules; every reference from another place counts again
MAX_KEY = 200  # characters of the name of a storage
MAX_RANK = 64  # PyTorch's own limit
MAX_LENGTH = 2**63 - 1

# class of the storage -> (dtype, bytes per element)
_STORAGES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
    "ComplexFloatStorage": ("complex64", 8),
    "ComplexDoubleStorage": ("complex128", 16),
    "QInt8Storage": ("qint8", 1),
    "QUInt8Storage": ("quint8", 1),
    "QInt32Storage": ("qint32", 4),
    "QUInt4x2Storage": ("quint4x2", 1),
    "QUInt2x4Storage": ("quint2x4", 1),
    "UntypedStorage": ("untyped", 1),
}


class Budget(ElementBudget):
    """What one file may cost to look at, however often its parts refer to each other."""

    def __init__(self) -> None:
        super().__init__()
        self._steps = MAX_STEPS

    def step(self, count: int) -> None:
        """Look at so many tensors or modules; raises UnreadableModel where it were too many."""
        self._steps -= count
        if self._steps < 0:
            raise UnreadableModel(f"holds or refers to over {MAX_STEPS} tensors and modules")


class Storages(Protocol):
    """The storages that lie beside a pickle."""

    @property
    def byteorder(self) -> ByteOrder:
        """Of every element."""

    @property
    def budget(self) -> Budget:
        """Of the whole file."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Bytes of one storage; raises UnreadableModel where it is shorter."""


class Place(NamedTuple):
    """A storage: its key, its elements' dtype and bytes, and where a view of it begins."""

    key: str
    dtype: str
    width: int
    offset: int = 0


def place(reference: Value) -> Place:
    """What a persistent id refers to. Raises UnreadableModel where that is no storage."""
    if not isinstance(reference, PersistentId):
        raise UnreadableModel("pickle refers to a storage in an unknown way")
    if reference.place is None:
        reference.place = _place(reference.value)
    found: Place = reference.place
    return found


def _place(value: Value) -> Place:
    match value:
        case "storage", Global() as kind, str(key), _, int(), *more if len(key) <= MAX_KEY:
            dtype, width = _STORAGES.get(kind.name, ("unknown", 0))
            match more:  # PyTorch before 1.6 has a sixth value
                case [(_, int(offset), int()), *_] if offset >= 0:
                    return Place(key, dtype, width, offset)
                case [] | [None, *_]:
                    return Place(key, dtype, width)
    raise UnreadableModel("pickle refers to a storage in an unknown way")


def widths(references: Iterable[PersistentId]) -> dict[str, int]:
    """Bytes per element of each storage.

    Raises UnreadableModel for a storage of two types: PyTorch gives all tensors the type by which
    it meets the storage first.
    """
    types: dict[str, Place] = {}
    for reference in references:
        if not _is_class(reference.value):
            found = place(reference)
            if types.setdefault(found.key, found).dtype != found.dtype:
                raise UnreadableModel(f"gives the storage {found.key!r} two types")
    return {key: found.width for key, found in types.items()}


def _is_class(value: Value) -> bool:
    return isinstance(value, tuple) and value[:1] == ("module",)


def integers(value: Value) -> tuple[int, ...]:
    """A torch.Size or tuple of non-negative integers."""
    if isinstance(value, Instance) and value.class_path == "torch.Size" and value.args:
        value = value.args[0]
    if not isinstance(value, tuple | list) or len(value) > MAX_RANK:
        raise UnreadableModel("pickle gives a tensor a shape that no tensor can have")
    for length in value:
        if type(length) is not int or not 0 <= length <= MAX_LENGTH:
            raise UnreadableModel("pickle gives a tensor a shape that no tensor can have")
    return tuple(value)


def strided(
    storage: Value,
    offset: Value,
    size: Value,
    stride: Value,
    dtype: str | None,
    storages: Storages,
) -> Tensor:
    """A dense tensor; ``dtype`` where it is not the storage's."""
    where = place(storage)
    shape, strides = integers(size), integers(stride)
    if len(shape) != len(strides) or type(offset) is not int or offset < 0:
        raise UnreadableModel("pickle gives a tensor strides that no tensor can have")
    view = View(storages, where.key, dtype or where.dtype, where.offset + offset, shape, strides)
    return Tensor(shape, view.dtype, view, storage=where.key)


@dataclass(slots=True, eq=False)
class View:
    """Where the elements of a tensor lie; offset and strides in elements. Called, it reads them."""

    storages: Storages
    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def span(self) -> int:
        """How many elements of the storage the tensor stretches over."""
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie in row-major order, without gaps."""
        expected = 1
        for length, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if length != 1 and stride != expected:
                return False
            expected *= length
        return True

    def __call__(self) -> array[float]:
        """The elements, in row-major order."""
        numel = prod(self.shape)
        if numel == 0:
            return array("d")
        width = itemsize(self.dtype)
        if width is None:
            raise UnknownFact(Unknown("values", f"values of dtype {self.dtype} are not decoded"))
        in_order = self.span == numel and self.is_contiguous
        self.storages.budget.decode(max(numel, self.span), in_order)
        data = self.storages.read(self.key, self.offset * width, self.span * width)
        values = decode(data, self.dtype, self.storages.byteorder)
        if in_order:
            return values
        indices = _indices(self.shape, self.strides)
        return array(values.typecode, (values[i] for i in indices))


def _indices(shape: Sequence[int], strides: Sequence[int]) -> map[int]:
    """Positions of the elements in row-major order."""
    axes = [range(0, n * s, s) if s else [0] * n for n, s in zip(shape, strides, strict=True)]
    return map(sum, itertools.product(*axes))
