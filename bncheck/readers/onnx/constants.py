"""Which values of an ONNX graph are constants, looking through what exporters put before them.

Initializers and Constant nodes are constants, and so is what Identity, Cast and reshaping make of
one; such nodes become part of the constant and are no nodes of the graph. Everything else that
depends on constants only (ConstantOfShape, DequantizeLinear, arithmetic) counts as computed.
"""

from __future__ import annotations

from array import array

from bncheck.errors import UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.readers.onnx.inline import Initializer
from bncheck.readers.onnx.operation import Operation
from bncheck.readers.onnx.values import Storage
from bncheck.readers.onnx.views import view
from bncheck.tensor import Tensor

LONGEST_ARGUMENT = 64  # elements of a constant that gives an operator its axes, shape or ratio

MOST_VIEWS = 50  # each is a level of recursion when values are read


class Constants:
    """The constants of a flat graph by name; the name is also their storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._tensors: dict[str, Tensor] = {}
        self._views: dict[str, int] = {}  # how many nodes a constant is away from what is stored

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def get(self, name: str) -> Tensor | None:
        """A constant; None for a value that is none."""
        return self._tensors.get(name)

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """The elements of a small constant that is an operator's argument, where it is known."""
        tensor = self._tensors.get(name)
        if tensor is None or tensor.numel > LONGEST_ARGUMENT:
            return None
        try:
            return tuple(tensor.values)
        except (UnknownFact, UnreadableModel):  # its external file may be missing
            return None

    def integers(self, name: str) -> tuple[int, ...] | None:
        """The same for axes, sizes and shapes."""
        numbers = self.numbers(name)
        if numbers is None or not all(isinstance(number, int) for number in numbers):
            return None
        return tuple(map(int, numbers))

    def add(self, initializer: Initializer) -> None:
        """Take note of an initializer."""
        self._tensors[initializer.name] = self._storage.tensor(initializer.tensor, initializer.name)

    def absorb(self, operation: Operation) -> bool:
        """Whether an operation only makes a constant, of which note is taken."""
        if operation.domain or operation.opaque or len(operation.outputs) != 1:
            return False
        made = self._literal(operation) if operation.op == "Constant" else self._view(operation)
        if made is not None:
            self._tensors[operation.outputs[0]] = made
        return made is not None

    def _view(self, operation: Operation) -> Tensor | None:
        name = operation.operand(0)
        source, views = self._tensors.get(name), self._views.get(name, 0) + 1
        if source is None or views > MOST_VIEWS:
            return None
        self._views[operation.outputs[0]] = views
        return view(operation, source, self.integers)

    def _literal(self, operation: Operation) -> Tensor | None:
        name = operation.outputs[0]
        proto = operation.tensor("value") or operation.tensor("sparse_value")
        if proto is not None:
            return self._storage.tensor(proto, name)
        for attribute, dtype, typecode in _LITERALS:
            if attribute in operation.attributes:
                return _written_out(operation.attributes[attribute].value, dtype, typecode, name)
        return None


_LITERALS = (
    ("value_float", "float32", "f"),
    ("value_floats", "float32", "f"),
    ("value_int", "int64", "q"),
    ("value_ints", "int64", "q"),
)


def _written_out(value: object, dtype: str, typecode: str, name: str) -> Tensor | None:
    """A constant written into its node; None where the list is too long to be read as one."""
    if value is None:
        return None
    shape = (len(value),) if isinstance(value, tuple) else ()
    numbers = value if isinstance(value, tuple) else (value,)
    values: array[float] = array(typecode, numbers)
    return Tensor(shape, dtype, lambda: values, name)
