"""Which values of an ONNX graph are constants, looking through what exporters put before them.

Initializers and Constant nodes are constants, and so is what Identity, Cast, reshaping and Expand
make of one; such nodes become part of the constant and are no nodes of the graph. Everything else
that depends on constants only (DequantizeLinear, ConstantOfShape, arithmetic) counts as computed,
but small arrays of integers are followed, since they may be an operator's arguments.
"""

from __future__ import annotations

from array import array
from collections.abc import MutableMapping

from bncheck.errors import UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.graph import Shape
from bncheck.readers.onnx.inline import Initializer
from bncheck.readers.onnx.operation import Operation
from bncheck.readers.onnx.sizes import Sizes, computed
from bncheck.readers.onnx.values import Storage
from bncheck.readers.onnx.views import order_of, view
from bncheck.tensor import Tensor

LONGEST_ARGUMENT = 64  # elements of a constant that gives an operator its axes, shape or ratio
MOST_ELEMENTS = 1_000_000  # of all arrays of integers that are followed
MOST_VIEWS = 50  # each is a level of recursion when values are read


class Constants:
    """The constants of a flat graph by name; the name is also their storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._tensors: dict[str, Tensor] = {}
        self._views: dict[str, int] = {}  # how many nodes a constant is away from what is stored
        self._transposed: dict[str, str] = {}
        self._sizes: dict[str, Sizes] = {}
        self._elements_left = MOST_ELEMENTS

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def get(self, name: str) -> Tensor | None:
        """A constant; None for a value that is none."""
        return self._tensors.get(name)

    def transposed(self, name: str) -> Tensor | None:
        """The matrix of which a constant is the transpose; None where it is none."""
        return self._tensors.get(self._transposed.get(name, ""))

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
        """The same for axes, sizes and shapes, which may be computed too."""
        elements = self.sizes(name)
        known = tuple(each for each in elements or () if each is not None)
        return known if elements is not None and len(known) == len(elements) else None

    def sizes(self, name: str) -> tuple[int | None, ...] | None:
        """The same with None in place of elements that depend on data."""
        found = self._sizes_of(name)
        return None if found is None else found.elements

    def _sizes_of(self, name: str) -> Sizes | None:
        if name in self._sizes:
            return self._sizes[name]
        numbers, tensor = self.numbers(name), self._tensors.get(name)
        if tensor is None or numbers is None or not all(isinstance(each, int) for each in numbers):
            return None
        return Sizes(tensor.shape, tuple(map(int, numbers)))

    def follow(self, operation: Operation, shapes: MutableMapping[str, Shape]) -> None:
        """Take note of an array of integers that an operation computes, or of a shape it gives."""
        asked = self.sizes(operation.operand(0)) if operation.op == "ConstantOfShape" else None
        if asked and any(operation.outputs) and not operation.domain:
            shapes.setdefault(operation.outputs[0], asked)
        source = self._tensors.get(operation.operand(0))
        shape = shapes.get(operation.operand(0), ()) if source is None else source.shape
        made = computed(operation, self._sizes_of, shape)
        if made is not None and len(made.elements) <= self._elements_left:
            self._elements_left -= len(made.elements)
            self._sizes[operation.outputs[0]] = made

    def add(self, initializer: Initializer) -> None:
        """Take note of an initializer."""
        self._tensors[initializer.name] = self._storage.tensor(initializer.tensor, initializer.name)

    def absorb(self, operation: Operation) -> bool:
        """Whether an operation only makes a constant, of which note is taken."""
        if operation.domain or operation.opaque or len(operation.outputs) != 1:
            return False
        make = {"Constant": self._literal, "ConstantOfShape": self._filled}
        made = make.get(operation.op, self._view)(operation)
        if made is not None:
            self._tensors[operation.outputs[0]] = made
        return made is not None

    def _view(self, operation: Operation) -> Tensor | None:
        name = operation.operand(0)
        source, views = self._tensors.get(name), self._views.get(name, 0) + 1
        if source is None or views > MOST_VIEWS:
            return None
        self._views[operation.outputs[0]] = views
        if operation.op == "Transpose" and order_of(operation, len(source.shape)) == (1, 0):
            self._transposed[operation.outputs[0]] = name
        return view(operation, source, self.integers)

    def _filled(self, operation: Operation) -> Tensor | None:
        """A row of equal integers, as exporters make the sides of a padding of."""
        proto, shape = operation.tensor("value"), self.integers(operation.operand(0))
        if proto is None or proto.dtype != "int64" or proto.shape not in ((), (1,)):
            return None
        if shape is None or len(shape) != 1 or not 0 <= shape[0] <= LONGEST_ARGUMENT:
            return None
        fill = self._storage.tensor(proto, None)
        return Tensor(shape, "int64", lambda: fill.values * shape[0], operation.outputs[0])

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
