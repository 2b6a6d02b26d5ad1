"""Operators of TorchScript code: on numbers and containers they are computed, on tensors written.

An operator is named as the code does it: "torch.conv2d" is of aten, "ops.prim.min" of prim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bncheck.facts import Unknown
from bncheck.readers.aten.call import Argument, Value
from bncheck.readers.torchscript import plain
from bncheck.readers.torchscript.containers import NOT_KNOWN, Containers
from bncheck.readers.torchscript.program import Unclear
from bncheck.readers.torchscript.routines import Raised
from bncheck.readers.torchscript.tape import VIEWS, Owner, Record, Tape
from bncheck.readers.torchscript.values import (
    DEEPEST,
    UNKNOWN,
    Computed,
    Data,
    Dictionary,
    Heap,
    List,
    Named,
    Runtime,
    Stored,
    is_plain,
    leaves,
    words,
)

TENSORS = (Data, Stored)
NO_VALUE = "?"  # the name of a number that is not known, nor where it comes from
# What gives its first argument back, as far as the graph is concerned.
TRANSPARENT = words("data wait _unwrap_optional unchecked_unwrap_optional")
WITHOUT_RESULT = words("warn manual_seed set_grad_enabled")
OF_THE_CALLER = words("is_grad_enabled is_autocast_enabled is_autocast_cpu_enabled is_scripting")


class Operators:
    """Applies operators, and writes down those that make tensors."""

    def __init__(self, heap: Heap, tape: Tape, containers: Containers) -> None:
        self._heap = heap
        self._tape = tape
        self._containers = containers

    def apply(
        self,
        path: str,
        positional: Sequence[Runtime],
        named: Mapping[str, Runtime],
        owner: Owner | None,
    ) -> Runtime:
        """The result of an operator."""
        space, _, name = path.rpartition(".")
        space = {"torch": "aten"}.get(space, space.removeprefix("ops."))
        if (space, name) == ("prim", "RaiseException"):
            raise Raised
        if space in ("aten", "prim"):
            if name in WITHOUT_RESULT or name.startswith("_assert"):
                return None
            if name in OF_THE_CALLER:
                return UNKNOWN
            if name in TRANSPARENT and positional:
                return positional[0]
            known = self._computed(name, [*positional, *named.values()])
            if known is not NOT_KNOWN:
                return known
        return self._write(space, name, positional, named, owner)

    def _computed(self, name: str, arguments: Sequence[Runtime]) -> Runtime:
        """The result where it is no tensor, else NOT_KNOWN."""
        first = arguments[0] if arguments else None
        if isinstance(first, List | Dictionary):
            result = self._containers.apply(name, arguments)
            if result is not NOT_KNOWN:
                return result
        if name in ("__is__", "__isnot__"):
            return _identity(name, arguments)
        if isinstance(first, TENSORS) and name in plain.OF_SHAPE:
            return self._of_shape(name, first, arguments[1:])
        parts = [part for argument in arguments for part in leaves(argument, self._heap)]
        if name in plain.OF_CONTENT and any(isinstance(part, TENSORS) for part in parts):
            return Computed(next(p for p in parts if isinstance(p, TENSORS)), of_shape=False)
        if all(map(_is_number, parts)) and name in plain.NUMERIC:
            return self._number(name, arguments, parts)
        return NOT_KNOWN

    def _number(self, name: str, arguments: Sequence[Runtime], parts: Sequence[Runtime]) -> Runtime:
        if all(map(is_plain, arguments)):
            return plain.compute(name, arguments)
        numbers = [part for part in parts if isinstance(part, Computed)]
        if not numbers and any(isinstance(part, Stored) for part in parts):
            return NOT_KNOWN
        sources = [part for part in numbers if part.source is not None]
        return min(sources, key=lambda part: part.of_shape, default=UNKNOWN)

    def _of_shape(self, name: str, tensor: Data | Stored, rest: Sequence[Runtime]) -> Runtime:
        held = tensor.tensor if isinstance(tensor, Stored) else None
        if held is None or isinstance(held, Unknown):
            return Computed(tensor)
        match name, rest:
            case "dim" | "ndim", []:
                return len(held.shape)
            case "numel", []:
                return held.numel
            case "size" | "shape", []:
                return self._containers.new_list(held.shape)
            case "size", [int(axis)] if -len(held.shape) <= axis < len(held.shape):
                return held.shape[axis]
        return Computed(tensor)

    def _write(
        self,
        space: str,
        name: str,
        positional: Sequence[Runtime],
        named: Mapping[str, Runtime],
        owner: Owner | None,
    ) -> Runtime:
        record = Record(
            f"{space}.{name}",
            [self.argument(each) for each in positional],
            {key: self.argument(each) for key, each in named.items()},
            owner,
        )
        path = owner.path if owner is not None else ""
        result = self._tape.write(record, f"{path}:{name}" if path else name)
        first = positional[0] if positional else None
        if isinstance(first, TENSORS) and name in VIEWS:
            self._tape.relate(result.name, self._tape.latest(first.name))
        for changed in _changed(name, first, named):
            self._tape.change(self._tape.latest(changed.name), result.name)
        return result

    def argument(self, value: Runtime, depth: int = 0) -> Argument:
        """A value as an argument of an operation."""
        if isinstance(value, Data | Stored):
            return Value(self._tape.latest(value.name))
        if isinstance(value, Computed):
            return self._number_by_name(value)
        if depth > DEEPEST:
            raise Unclear("an operator is given lists that are nested too deep")
        if isinstance(value, List):
            value = self._heap[value]
        if isinstance(value, list | tuple):
            self._heap.budget.spend(len(value))
            return [self.argument(item, depth + 1) for item in value]
        if isinstance(value, Data | Computed):
            return self.argument(value)
        if isinstance(value, Named):
            return value.path
        return value if isinstance(value, bool | int | float | str) else None

    def _number_by_name(self, number: Computed) -> Value:
        """A number as the tensor it comes from, or as what reads that tensor's shape."""
        if number.source is None:
            return Value(NO_VALUE)
        name = self._tape.latest(number.source.name)
        return Value(self._tape.shape_of(name) if number.of_shape else name)


def _changed(name: str, first: Runtime, named: Mapping[str, Runtime]) -> list[Data | Stored]:
    """The tensors that an operator changes in place."""
    in_place = name.endswith("_") and not name.endswith("__")
    changed = [first] if in_place else [named["out"]] if "out" in named else []
    return [each for each in changed if isinstance(each, TENSORS)]


def _identity(name: str, arguments: Sequence[Runtime]) -> Runtime:
    """Comparison with None, which is all that ``is`` is printed for."""
    if len(arguments) != 2 or arguments[1] is not None:
        return UNKNOWN
    (value, _) = arguments
    if isinstance(value, Computed) or (isinstance(value, Data) and value.optional):
        return UNKNOWN
    return (value is None) == (name == "__is__")


def _is_number(part: Runtime) -> bool:
    """Whether something counts as a number beside others: a stored tensor of one element does."""
    if isinstance(part, Stored):
        return not isinstance(part.tensor, Unknown) and part.tensor.numel == 1
    return not isinstance(part, Data)
