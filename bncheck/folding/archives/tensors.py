"""Tensors as PyTorch's pickles rebuild them from storages that lie beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bncheck.errors import CannotFold
from bncheck.readers.torch.pickle_values import Dict, Global, Instance, PersistentId, Value
from bncheck.tensor import DTYPES

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
}
MOST_LOOKS = 4_000_000


@dataclass(frozen=True, slots=True)
class Content:
    """A tensor to be stored, without gaps; ``strides`` are in elements, ``make`` gives its bytes.

    ``grad``: it wants a gradient, where it is new.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    size: int
    make: Callable[[], bytes]
    grad: bool = False


def ordered() -> Instance:
    """An OrderedDict, still empty."""
    return Instance(Global("collections", "OrderedDict"), ())


def rebuilt(key: str, content: Content, device: str = "cpu", grad: bool = False) -> Instance:
    """A tensor that is all of a storage."""
    elements = content.size // DTYPES[content.dtype][0]
    kind = Global("torch", STORAGES[content.dtype])
    storage = PersistentId(("storage", kind, key, device, elements))
    arguments = (storage, 0, content.shape, content.strides, grad, ordered())
    return Instance(Global("torch._utils", "_rebuild_tensor_v2"), arguments)


def inside(values: Sequence[Value]) -> Iterator[Value]:
    """Everything in values, however deep, shared things once."""
    waiting, seen = [*values], set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        if len(seen) > MOST_LOOKS:
            raise CannotFold(f"its pickle holds over {MOST_LOOKS} values")
        seen.add(id(value))
        yield value
        waiting += _parts(value)


def _parts(value: Value) -> list[Value]:
    if isinstance(value, tuple | list):
        return [*value]
    if isinstance(value, Dict):
        return [item for pair in value.pairs for item in pair]
    if isinstance(value, Instance):
        flat = [item for pair in value.pairs for item in pair]
        return [value.args, *flat, *value.elements, value.state]
    return [value.value] if isinstance(value, PersistentId) else []
