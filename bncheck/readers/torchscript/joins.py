"""What a name stands for after paths that cannot be told apart: branches, and turns of a loop."""

from __future__ import annotations

from collections.abc import Sequence

from bncheck.readers.aten.call import Value
from bncheck.readers.torchscript.containers import Containers
from bncheck.readers.torchscript.program import Unclear
from bncheck.readers.torchscript.tape import Record, Tape
from bncheck.readers.torchscript.values import (
    DEEPEST,
    UNINITIALIZED,
    Computed,
    Data,
    Dictionary,
    Heap,
    List,
    Runtime,
    Stored,
    is_plain,
    leaves,
)

TENSORS = (Data, Stored)


class Join:
    """One opaque operation that makes all joined tensors, where there are any.

    ``because`` is what decides which path is taken. Tensors are given as they were on their path,
    that is settled (see Tape). Call ``finish`` before the results are used.
    """

    def __init__(
        self, op: str, because: Runtime, heap: Heap, tape: Tape, containers: Containers
    ) -> None:
        self._op = op
        self._because = because
        self._heap = heap
        self._tape = tape
        self._containers = containers
        self._record: Record | None = None
        self._reads: list[Value] = []

    def of(self, left: Runtime, right: Runtime, depth: int = 0) -> Runtime:
        """What is ``left`` on one path and ``right`` on the other."""
        if _is_same(left, right) or right is UNINITIALIZED:
            return left
        if left is UNINITIALIZED:
            return right
        if depth > DEEPEST:
            raise Unclear("branches give containers that are nested too deep")
        pair = self._contents(left, right)
        if pair is not None:
            items = [self.of(a, b, depth + 1) for a, b in zip(*pair, strict=True)]
            return tuple(items) if isinstance(left, tuple) else self._containers.new_list(items)
        parts = [*self._parts(left), *self._parts(right)]
        if any(isinstance(part, TENSORS) for part in parts):
            optional = any(part is None or getattr(part, "optional", False) for part in parts)
            return Data(self._made(parts).name, optional)
        return self._computed()

    def of_contents(self, left: Runtime, right: Runtime) -> Runtime:
        """The same for what the heap holds, such as the items of a list."""
        if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
            return [self.of(a, b) for a, b in zip(left, right, strict=True)]
        if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
            return {key: self.of(left[key], right[key]) for key in left}
        return self.of(left, right)

    def widened(self, value: Runtime, depth: int = 0) -> Runtime:
        """What a value may have become after some turns of a loop."""
        if isinstance(value, tuple) and depth <= DEEPEST:
            return tuple(self.widened(item, depth + 1) for item in value)
        if isinstance(value, Data | Stored | List | Dictionary | list | dict) or value is None:
            optional = value is None or getattr(value, "optional", False)
            return Data(self._made(self._parts(value)).name, optional)
        return self._computed()

    def finish(self) -> None:
        """Write the operation down; nothing is joined any more."""
        if self._record is not None:
            self._tape.add(self._record)

    def _computed(self) -> Computed:
        if isinstance(self._because, TENSORS):
            return Computed(self._because, of_shape=False)
        return self._because if isinstance(self._because, Computed) else Computed()

    def _contents(
        self, left: Runtime, right: Runtime
    ) -> tuple[Sequence[Runtime], Sequence[Runtime]] | None:
        """The items of two tuples or lists of one length."""
        if isinstance(left, List) and isinstance(right, List):
            left, right = self._heap[left], self._heap[right]
            alike = isinstance(left, list) and isinstance(right, list)
        else:
            alike = isinstance(left, tuple) and isinstance(right, tuple)
        return (left, right) if alike and len(left) == len(right) else None

    def _parts(self, value: Runtime) -> list[Runtime]:
        """All that is in a value; of a container, as it is by now."""
        if isinstance(value, TENSORS):
            return [value]
        return [self._tape.settled(part) for part in leaves(value, self._heap)]

    def _made(self, parts: Sequence[Runtime]) -> Data:
        """Another output of the operation, which reads the tensors among ``parts``."""
        if self._record is None:
            self._record = Record(self._op, self._reads, {})
            self._tape.output(self._record, None, self._op.rpartition(".")[2])
            self._read([_decisive(self._because)])
        self._read(parts)
        index = len(self._record.outputs) - 1
        return self._tape.output(self._record, index, f"{self._record.outputs[None]}.{index}")

    def _read(self, parts: Sequence[Runtime]) -> None:
        tensors = [part for part in parts if isinstance(part, TENSORS)]
        self._heap.budget.spend(len(tensors))
        self._reads.extend(Value(tensor.name) for tensor in tensors)


def _decisive(test: Runtime) -> Runtime:
    """The tensor on whose content a condition depends, if it is one."""
    return test.source if isinstance(test, Computed) and not test.of_shape else test


def _is_same(left: Runtime, right: Runtime) -> bool:
    if left is right:
        return True
    if isinstance(left, TENSORS) and isinstance(right, TENSORS):
        return left.name == right.name
    return is_plain(left) and type(left) is type(right) and bool(left == right)
