"""safetensors: 8 bytes with the length of a JSON header, the header, then the raw tensors.

The rules of a sound file (no holes, no overlap, all bytes used) are those of the reference
implementation, https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.model import Model
from bncheck.readers.build import Origin, from_state_dict
from bncheck.readers.limits import ElementBudget
from bncheck.readers.source import Source
from bncheck.tensor import Tensor, decode, itemsize

LENGTH_BYTES = 8
MAX_HEADER = 32 * 2**20  # bytes of plain ASCII; of other text a quarter
MAX_TENSORS = 200_000
MAX_COMMAS = 12 * MAX_TENSORS  # 3 between an entry's fields, 1 in its range, the others in shapes
MAX_RANK = 64
MAX_LENGTH = 2**63 - 1
MAX_SHOWN = 60  # characters of a name in a message
MAX_CLAIM = 2**40  # bytes of a header; what starts with more is no length but something else

# dtype -> (bncheck's name, bits per element)
_DTYPES = {
    "BOOL": ("bool", 8),
    "U8": ("uint8", 8),
    "I8": ("int8", 8),
    "U16": ("uint16", 16),
    "I16": ("int16", 16),
    "U32": ("uint32", 32),
    "I32": ("int32", 32),
    "U64": ("uint64", 64),
    "I64": ("int64", 64),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F32": ("float32", 32),
    "F64": ("float64", 64),
    "C64": ("complex64", 64),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F6_E2M3": ("float6_e2m3", 6),
    "F6_E3M2": ("float6_e3m2", 6),
    "F4": ("float4_e2m1fn_x2", 4),
}


_NAME = re.compile(r"\w{1,32}", re.ASCII)  # also of a dtype to come


def looks_like_safetensors(start: bytes) -> bool:
    """Whether a file that begins so claims to be one; ``start`` holds its first bytes."""
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    return 2 <= length <= MAX_CLAIM and start[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{"


def read(source: Source) -> tuple[Model, ...]:
    """The one state_dict of a file."""
    return (from_state_dict(tensors(source), {}, "state_dict", Origin("safetensors")),)


def tensors(source: Source) -> dict[str, Tensor]:
    """The tensors of a file by name."""
    length = int.from_bytes(source.read(0, LENGTH_BYTES), "little")
    if length > MAX_HEADER:
        raise UnreadableModel(f"has a header of {length} bytes, over {MAX_HEADER}: damaged?")
    header = _parse(source.read(LENGTH_BYTES, length))
    header.pop("__metadata__", None)
    return dict(_tensors(header, source, LENGTH_BYTES + length))


def _parse(header: bytes) -> dict[str, object]:
    # Every tensor brings one object and two arrays: more than that is no header but an attack.
    if (
        header.count(b"{") > MAX_TENSORS
        or header.count(b"[") > 2 * MAX_TENSORS
        or header.count(b",") > MAX_COMMAS
        or (len(header) > MAX_HEADER // 4 and not _is_plain(header))
    ):
        raise UnreadableModel(f"has a header of {len(header)} bytes, too large for a model")
    try:
        parsed = json.loads(header.decode(), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise UnreadableModel("has a header that is no JSON: damaged") from error
    if not isinstance(parsed, dict):
        raise UnreadableModel("has a header that is no JSON object")
    return parsed


def _is_plain(header: bytes) -> bool:
    """Whether no character takes more room in memory than in the file."""
    return header.isascii() and b"\\u" not in header


def _object(pairs: list[tuple[str, object]]) -> object:
    """An object of the header; what describes a tensor is made small at once."""
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise UnreadableModel("has a header that names something twice")
    return _described(unique) or unique


class _Described(NamedTuple):
    """A tensor as the header has it; its range is in bytes behind the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def _described(entry: dict[str, Any]) -> _Described | None:
    """dtype, shape and range, checked against each other; None where they are not sound."""
    match entry:
        case {"dtype": str(code), "shape": [*shape], "data_offsets": [int(start), int(stop)]}:
            dtype, bits = _DTYPES.get(code, (code, 0))
            sound = _NAME.fullmatch(code) and _are_lengths([*shape, start, stop]) and start <= stop
            if sound and (not bits or prod(shape) * bits == (stop - start) * 8):
                return _Described(dtype, tuple(shape), start, stop)
    return None


def _are_lengths(numbers: list[object]) -> bool:
    few = len(numbers) <= MAX_RANK + 2
    return few and all(type(n) is int and 0 <= n <= MAX_LENGTH for n in numbers)


def _tensors(
    header: Mapping[str, object], source: Source, begin: int
) -> Iterator[tuple[str, Tensor]]:
    ranges, budget = [], ElementBudget()
    for name, entry in header.items():
        if not isinstance(entry, _Described):
            shown = name[:MAX_SHOWN]
            raise UnreadableModel(f"has a header that contradicts itself at tensor {shown!r}")
        ranges.append((entry.start, entry.stop))
        elements = _Elements(source, budget, entry.dtype, entry.shape, begin + entry.start)
        yield name, Tensor(entry.shape, entry.dtype, elements, storage=elements.offset)
    ranges.sort()
    _require_gapless(ranges, source.size - begin)


def _require_gapless(ranges: Sequence[tuple[int, int]], size: int) -> None:
    """The reference implementation's rule: tensors one behind the other, up to the end."""
    end = 0
    for start, stop in ranges:
        if start != end:
            raise UnreadableModel("has tensors that overlap, or bytes between them: damaged")
        end = stop
    if end != size:
        raise UnreadableModel(
            f"has {size} bytes of tensors where its header speaks of {end}: "
            "truncated download, or damaged"
        )


@dataclass(slots=True, eq=False)
class _Elements:
    """Where the elements of a tensor lie in the file. Called, it reads them."""

    source: Source
    budget: ElementBudget
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def __call__(self) -> array[float]:
        width, numel = itemsize(self.dtype), prod(self.shape)
        if width is None:
            raise UnknownFact(Unknown("values", f"values of dtype {self.dtype} are not decoded"))
        self.budget.decode(numel)
        return decode(self.source.read(self.offset, numel * width), self.dtype)
