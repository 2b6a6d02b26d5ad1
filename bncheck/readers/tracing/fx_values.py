"""What torch.fx writes into graphs, in terms that need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bncheck.graph import Shape
from bncheck.readers.aten import Argument, Value

DEEPEST = 16  # lists within lists


def is_node(value: object) -> bool:
    """Whether an argument is a torch.fx.Node."""
    return hasattr(value, "all_input_nodes") and hasattr(value, "users")


def argument(value: Any, depth: int = 0) -> Argument:
    """An argument of a node; None for what no rule needs (a device, a layout)."""
    if is_node(value):
        return Value(str(value.name))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and depth < DEEPEST:
        return [argument(each, depth + 1) for each in value]
    if isinstance(value, Mapping) and depth < DEEPEST:
        return [argument(each, depth + 1) for each in value.values()]
    if isinstance(value, slice) and depth < DEEPEST:
        return [argument(each, depth + 1) for each in (value.start, value.stop, value.step)]
    return str(value).removeprefix("torch.") if type(value).__name__ == "dtype" else None


def shape_of(tensor: Any) -> Shape | None:
    """The shape of a tensor, real or fake, or of its metadata; None for anything else."""
    shape = getattr(tensor, "shape", None)
    if shape is None:
        return None
    return tuple(size if type(size) is int else None for size in shape)
