"""Tensors of a model file: shape and dtype at once, values on first touch, each reduced once."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable, Hashable
from functools import cached_property
from struct import unpack
from typing import Literal

MANY = 2**16  # elements from which numpy is worth its import; no normalization layer has so many
UNPACKED_AT_ONCE = 2**14  # elements; each is an object of its own meanwhile
ByteOrder = Literal["little", "big"]

# dtype -> (bytes per element, array typecode or None where decoding takes a step of its own)
DTYPES: dict[str, tuple[int, str | None]] = {
    "float64": (8, "d"),
    "float32": (4, "f"),
    "float16": (2, None),
    "bfloat16": (2, None),
    "int64": (8, "q"),
    "int32": (4, "i"),
    "int16": (2, "h"),
    "int8": (1, "b"),
    "uint64": (8, "Q"),
    "uint32": (4, "I"),
    "uint16": (2, "H"),
    "uint8": (1, "B"),
    "bool": (1, "B"),
}


def itemsize(dtype: str) -> int | None:
    """Bytes per element, or None for a dtype whose values bncheck does not decode."""
    known = DTYPES.get(dtype)
    return known[0] if known else None


def decode(data: bytes, dtype: str, byteorder: ByteOrder = "little") -> array[float]:
    """Decode contiguous elements of one of DTYPES."""
    _, typecode = DTYPES[dtype]
    raw: array[float] = array(typecode or "H")
    raw.frombytes(data)
    if byteorder != sys.byteorder:
        raw.byteswap()
    if dtype in ("bfloat16", "float16") and len(raw) > MANY:
        return _widen_many(raw, dtype)
    if dtype == "bfloat16":
        return _widen_bfloat16(raw)
    if dtype == "float16":
        return _widen_float16(raw)
    if dtype == "bool":  # any bit makes it true
        return array(raw.typecode, map(bool, raw))
    return raw


def _widen_many(raw: array[float], dtype: str) -> array[float]:
    import numpy as np

    bits = np.frombuffer(raw, np.uint16)
    if dtype == "float16":
        floats = bits.view(np.float16).astype(np.float32)
    else:
        floats = (bits.astype(np.uint32) << 16).view(np.float32)
    wide: array[float] = array("f")
    wide.frombytes(floats.tobytes())
    return wide


def _widen_bfloat16(raw: array[float]) -> array[float]:
    """A bfloat16 is the upper half of a float32."""
    bits = array("I", (int(half) << 16 for half in raw))
    return array("f", bits.tobytes())


def _widen_float16(raw: array[float]) -> array[float]:
    wide: array[float] = array("f")
    for begin in range(0, len(raw), UNPACKED_AT_ONCE):
        part = raw[begin : begin + UNPACKED_AT_ONCE]
        wide.extend(unpack(f"={len(part)}e", part.tobytes()))
    return wide


class Tensor:
    """A tensor whose values are loaded on first touch.

    ``values`` are flat, in row-major order; ``shape`` has no unit. ``storage`` tells whether two
    tensors share memory: equal keys, same storage. Loading raises what the loader raises:
    ``UnreadableModel`` for a broken file, ``UnknownFact`` where the file holds no values.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: str,
        load: Callable[[], array[float]],
        storage: Hashable = None,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.storage = storage
        self._load = load

    def __repr__(self) -> str:
        return f"Tensor({list(self.shape)}, {self.dtype})"

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @cached_property
    def values(self) -> array[float]:
        """All elements, flat."""
        return self._load()

    def read(self) -> array[float]:
        """All elements, flat, as ``values``; for a tensor that is looked at once, not kept."""
        return self.values if "values" in self.__dict__ else self._load()

    def fresh(self) -> array[float]:
        """All elements, which are not kept here: for weights that are read once."""
        kept: array[float] | None = vars(self).get("values")
        return self._load() if kept is None else kept

    @cached_property
    def finite(self) -> bool:
        """Whether no element is NaN or infinite."""
        # A sum is NaN or infinite as soon as one term is; only an overflow needs the slow look.
        return math.isfinite(sum(self.values)) or all(map(math.isfinite, self.values))

    @cached_property
    def minimum(self) -> float:
        """The smallest element; NaN when there is one, +inf when empty."""
        return min(self.values, default=math.inf) if self.finite else self._with_nan(min)

    @cached_property
    def maximum(self) -> float:
        """The largest element; NaN when there is one, -inf when empty."""
        return max(self.values, default=-math.inf) if self.finite else self._with_nan(max)

    def _with_nan(self, reduce: Callable[[array[float]], float]) -> float:
        return math.nan if any(map(math.isnan, self.values)) else reduce(self.values)

    def all_equal(self, value: float) -> bool:
        """Whether every element equals the value (true for an empty tensor)."""
        return self.numel == 0 or (self.minimum == value and self.maximum == value)

    def where(self, predicate: Callable[[float], bool]) -> tuple[int, ...]:
        """Flat indices of the elements for which the predicate holds."""
        return tuple(i for i, value in enumerate(self.values) if predicate(value))


def constant(value: float, shape: tuple[int, ...] = (), dtype: str = "float64") -> Tensor:
    """A tensor filled with one value."""
    return Tensor(shape, dtype, lambda: array("d", [value]) * math.prod(shape))
