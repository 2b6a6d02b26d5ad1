"""Changes of a module that can be made, and taken back to the last bit."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from bncheck.errors import CannotFold
from bncheck.readers.tracing.sandbox import CONTAINERS


class Surgery:
    """Prepared changes; each is made and taken back by the same exchange."""

    def __init__(self) -> None:
        self._swaps: list[Callable[[], None]] = []
        self.is_applied = False

    def set_entry(self, held: dict[str, Any], name: str, new: Any) -> None:
        """Prepare another module or tensor under a name that the dictionary has."""
        self._swaps.append(partial(_swap_entries, held, name, {name: new}))

    def set_data(self, tensor: Any, new: Any) -> None:
        """Prepare other elements of a tensor, which stays the same object."""
        self._swaps.append(partial(_swap_data, tensor, [new]))

    def apply(self) -> None:
        """Make all changes, unless they are made."""
        if not self.is_applied:
            self._swap(self._swaps)

    def undo(self) -> None:
        """Take all changes back, unless they are."""
        if self.is_applied:
            self._swap(self._swaps[::-1])

    def _swap(self, swaps: list[Callable[[], None]]) -> None:
        for swap in swaps:
            swap()
        self.is_applied = not self.is_applied


def _swap_entries(held: dict[str, Any], name: str, other: dict[str, Any]) -> None:
    held[name], other[name] = other[name], held[name]


def _swap_data(tensor: Any, other: list[Any]) -> None:
    old = tensor.data
    tensor.data = other[0]
    other[0] = old


def copied(module: Any) -> Any:
    """A copy of a module. Raises CannotFold where its classes have none."""
    memo = {id(each): each.detach().clone() for each in _computed_tensors(module)}
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:  # whatever the module's own code raises
        line = str(error).partition("\n")[0] or type(error).__name__
        raise CannotFold(f"the module has no copy ({line}): fold it with inplace=True") from error


def _computed_tensors(module: Any) -> Iterator[Any]:
    """Tensors among plain attributes that autograd has made, which cannot be copied as they are."""
    for each in module.modules():
        for held in vars(each).values():
            if getattr(held, "grad_fn", None) is not None:
                yield held


@contextmanager
def as_it_was(module: Any) -> Iterator[None]:
    """Let a module be run; afterwards all but its parameters is what it was."""
    kept = [(vars(each), dict(vars(each)), _contents(vars(each))) for each in module.modules()]
    buffers = [(each, _version(each), each.detach().clone()) for each in _buffers(module)]
    try:
        yield
    finally:
        for attributes, before, containers in kept:
            attributes.clear()
            attributes.update(before)
            _restore(containers)
        for buffer, version, before in buffers:
            if _version(buffer) != version:
                buffer.data.copy_(before)


def _buffers(module: Any) -> Iterator[Any]:
    for each in module.modules():
        yield from (held for held in each._buffers.values() if held is not None)


def _version(tensor: Any) -> int:
    """How often a tensor was written to; one of inference mode cannot be, outside of it."""
    return 0 if tensor.is_inference() else int(tensor._version)


Contents = list[tuple[Any, Any]]


def _contents(attributes: Mapping[str, Any]) -> Contents:
    """The plain containers among attributes, each with a shallow copy."""
    held = (each for each in attributes.values() if type(each) in CONTAINERS)
    return [(each, each.copy()) for each in held]


def _restore(containers: Contents) -> None:
    for held, before in containers:
        held.clear()
        if isinstance(held, list | deque):
            held.extend(before)
        else:
            held.update(before)
