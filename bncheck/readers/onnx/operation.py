"""One ONNX operation, its names made unique and its function's attributes filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import pack, unpack
from typing import TypeVar, cast

from bncheck.errors import UnreadableModel
from bncheck.readers.onnx.attribute import Attribute, Held
from bncheck.readers.onnx.proto import NodeProto
from bncheck.readers.onnx.protobuf import quoted
from bncheck.readers.onnx.tensor import TensorProto

T = TypeVar("T")


@dataclass(slots=True)
class Operation:
    """A node of the flat graph. ``version`` is that of its domain; "" is ONNX's own domain.

    ``opaque``: stands for the way into or out of a body, whatever ``op`` is called. ``proto`` is
    the node of the file where it stands for exactly one.
    """

    op: str
    domain: str
    version: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    opaque: bool = False
    proto: NodeProto | None = None

    def operand(self, position: int) -> str:
        """An input's name, "" where it is absent."""
        return self.inputs[position] if position < len(self.inputs) else ""

    def integer(self, name: str, default: T) -> int | T:
        """An integer attribute; raises UnreadableModel for one of another type."""
        return cast("int | T", self._get(name, Held.INT, default))

    def flag(self, name: str, default: bool = False) -> bool:
        """An integer attribute that stands for a truth."""
        return self.integer(name, int(default)) != 0

    def real(self, name: str, default: float) -> float:
        """A float attribute as the decimal that was meant: 1e-05 for 9.999999747378752e-06."""
        return shortest(cast("float", self._get(name, Held.FLOAT, default)))

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of integers."""
        return cast("tuple[int, ...] | None", self._get(name, Held.INTS, None))

    def text(self, name: str, default: str) -> str:
        """A string."""
        return cast("str", self._get(name, Held.STRING, default))

    def tensor(self, name: str) -> TensorProto | None:
        """A tensor, dense or sparse."""
        attribute = self.attributes.get(name)
        value = attribute.value if attribute else None
        return value if isinstance(value, TensorProto) else None

    def _get(self, name: str, held: Held, default: object) -> object:
        attribute = self.attributes.get(name)
        if attribute is None:
            return default
        if attribute.held is not held:
            raise UnreadableModel(
                f"gives {quoted(self.op)} an attribute {quoted(name)} of the wrong type"
            )
        return default if attribute.value is None else attribute.value


def shortest(value: float) -> float:
    """The shortest decimal of at least six digits that is the same float32."""
    for digits in range(6, 10):
        candidate = float(f"{value:.{digits}g}")
        if _as_float32(candidate) == value:
            return candidate
    return value


def _as_float32(value: float) -> float:
    try:
        return cast("float", unpack("<f", pack("<f", value))[0])
    except OverflowError:
        return float("inf")
