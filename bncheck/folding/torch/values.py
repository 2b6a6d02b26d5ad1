"""What goes into a module and comes out of it: tensors within tuples, mappings and dataclasses."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

DEEPEST = 16
HALF = "bfloat16"


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same structure with every tensor changed."""
    return _mapped(value, change, importlib.import_module("torch").Tensor, 0)


def _mapped(value: Any, change: Callable[[Any], Any], kind: type, depth: int) -> Any:
    if isinstance(value, kind):
        return change(value)
    if depth == DEEPEST:
        return value
    if type(value) in (list, tuple):
        return type(value)(_mapped(each, change, kind, depth + 1) for each in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named one
        return type(value)(*(_mapped(each, change, kind, depth + 1) for each in value))
    if type(value) is dict:
        return {name: _mapped(each, change, kind, depth + 1) for name, each in value.items()}
    return value


def tensors(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """All tensors and numbers within a value, under names that say where they are."""
    torch: Any = importlib.import_module("torch")
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, bool | int | float | complex):
        yield name, torch.tensor(value)
    elif depth < DEEPEST:
        for part, held in _parts(value):
            yield from tensors(held, f"{name}.{part}" if name else str(part), depth + 1)


def _parts(value: Any) -> Iterator[tuple[object, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from vars(value).items()


def array(tensor: Any) -> tuple[Any, str]:
    """A tensor's elements as a numpy array, and the name of the dtype that they were in."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    dense = tensor.detach()
    if dense.layout is not importlib.import_module("torch").strided:
        dense = dense.to_dense()
    if dense.is_quantized:
        dense = dense.dequantize()
    if dense.is_complex():
        dense = importlib.import_module("torch").view_as_real(dense.resolve_conj())
        dtype = str(dense.dtype).removeprefix("torch.")
    if dense.is_floating_point() and dtype not in ("float64", "float32", "float16"):
        dense = dense.float()
    return dense.resolve_neg().cpu().numpy(), dtype
