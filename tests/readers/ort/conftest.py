"""ORT files made by hand, table by table, so that most tests need no onnxruntime."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from bncheck.model import Model
from bncheck.readers.ort import read
from bncheck.readers.source import BytesSource

TYPES = {"float32": 1, "int8": 3, "int64": 7, "string": 8, "float16": 10, "double": 11, "bf16": 16}


@dataclass(frozen=True)
class Number:
    """A number in a table, or, with a list, a vector of them."""

    format: str
    value: Any


@dataclass(frozen=True)
class Table:
    """A table by the positions of its fields; what is None is left out."""

    fields: Mapping[int, Any]


@dataclass(frozen=True, eq=False)
class Shared:
    """What several tables refer to, and is written once."""

    value: Any


@dataclass
class Writer:
    """Writes each object behind what refers to it."""

    data: bytearray = field(default_factory=lambda: bytearray(8))
    waiting: list[tuple[int, Any]] = field(default_factory=list)
    shared: dict[Shared, int] = field(default_factory=dict)

    def write(self, root: Table, identifier: bytes) -> bytes:
        self.data[4:8] = identifier
        self.waiting.append((0, root))
        for at, value in self.waiting:  # grows meanwhile
            place = self._write(value)
            struct.pack_into("<I", self.data, at, place - at)
        return bytes(self.data)

    def _write(self, value: Any) -> int:
        match value:
            case Shared(inner):
                if value not in self.shared:
                    self.shared[value] = self._write(inner)
                return self.shared[value]
            case Table(fields):
                return self._table({key: each for key, each in fields.items() if each is not None})
            case str():
                return self._vector(value.encode(), len(value.encode()), b"\0")
            case bytes():
                return self._vector(value, len(value))
            case Number(format, values):
                return self._vector(struct.pack(f"<{len(values)}{format}", *values), len(values))
            case list():
                place = self._vector(bytes(4 * len(value)), len(value))
                self.waiting += ((place + 4 + 4 * i, each) for i, each in enumerate(value))
                return place
        raise TypeError(value)

    def _vector(self, elements: bytes, count: int, end: bytes = b"") -> int:
        self._align(4)
        place = len(self.data)
        self.data += struct.pack("<I", count) + elements + end
        return place

    def _table(self, fields: Mapping[int, Any]) -> int:
        """Its layout lies before it; the widest fields come first, and are aligned."""
        layout = [0] * (max(fields, default=-1) + 1)
        self._align(4 + 2 * len(layout))
        inline, references = bytearray(4), []
        for key, value in sorted(fields.items(), key=lambda each: -_width(each[1])):
            layout[key] = len(inline)
            if _width(value) == 4 and not _is_inline(value):
                references.append((len(inline), value))
            inline += (
                struct.pack(f"<{value.format}", value.value) if _is_inline(value) else bytes(4)
            )
        self.data += struct.pack(f"<{2 + len(layout)}H", 4 + 2 * len(layout), len(inline), *layout)
        place = len(self.data)
        struct.pack_into("<i", inline, 0, 4 + 2 * len(layout))
        self.data += inline
        self.waiting += ((place + offset, value) for offset, value in references)
        return place

    def _align(self, before: int) -> None:
        """Fill up so that what comes after so many bytes more is at 4 after a multiple of 8."""
        self.data += bytes(-(len(self.data) + before + 4) % 8)


def _is_inline(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value.value, list)


def _width(value: Any) -> int:
    return struct.calcsize(value.format) if _is_inline(value) else 4


class Ort:
    """Makers of the tables of ort.fbs; ``file`` and ``read`` put a graph into a model."""

    Table, Number, Shared = Table, Number, Shared

    @staticmethod
    def encode(root: Table, identifier: bytes = b"ORTM") -> bytes:
        return Writer().write(root, identifier)

    @staticmethod
    def tensor(
        name: str, dims: Sequence[int], raw: bytes | None, dtype: str = "float32", **more: Any
    ) -> Table:
        numbers = Number("i", TYPES[dtype])
        fields = {0: name, 2: Number("q", [*dims]), 3: numbers, 4: raw}
        return Table({**fields, **{int(key[1:]): value for key, value in more.items()}})

    @classmethod
    def floats(cls, name: str, *values: float) -> Table:
        return cls.tensor(name, [len(values)], struct.pack(f"<{len(values)}f", *values))

    @staticmethod
    def attribute(name: str, value: Any) -> Table:
        kinds: dict[type, tuple[int, int, Any]] = {
            float: (1, 3, lambda: Number("f", value)),
            int: (2, 4, lambda: Number("q", value)),
            str: (3, 5, lambda: value),
            list: (7, 9, lambda: Number("q", value)),
        }
        kind, place, held = kinds.get(type(value), (5, 7, lambda: value))
        return Table({0: name, 2: Number("i", kind), place: held()})

    @classmethod
    def node(
        cls,
        op: str,
        inputs: str,
        outputs: str,
        domain: str = "",
        name: str = "",
        captured: str = "",
        **attributes: Any,
    ) -> Table:
        """``inputs`` and the like are names with spaces between, "-" for one that is absent."""
        held = [cls.attribute(key, value) for key, value in attributes.items()]
        return Table(
            {
                0: name,
                2: domain,
                5: op,
                8: _names(inputs),
                9: _names(outputs),
                10: held,
                12: _names(captured),
            }
        )

    @staticmethod
    def value(name: str, *sizes: int | str | None) -> Table:
        """A value and its shape; a size may be a name, or unknown."""
        dims = [Table({0: _size(size)}) for size in sizes]
        tensor = Table({0: Number("i", 1), 1: Table({0: dims})})
        return Table({0: name, 2: Table({1: Number("b", 1), 2: tensor})})

    @staticmethod
    def graph(
        nodes: Iterable[Table] = (),
        initializers: Iterable[Table] = (),
        inputs: str = "x",
        outputs: str = "y",
        values: Iterable[Table] = (),
        sparse: Iterable[Table] = (),
    ) -> Table:
        return Table(
            {
                0: [*initializers],
                1: [*values],
                2: [*nodes],
                5: _names(inputs),
                6: _names(outputs),
                7: [*sparse],
            }
        )

    @classmethod
    def file(
        cls, graph: Table | None, opsets: Mapping[str, int] = {"": 17}, version: str = "6"
    ) -> bytes:
        imports = [Table({0: key, 1: Number("q", value)}) for key, value in opsets.items()]
        model = Table({0: Number("q", 8), 1: imports, 2: "pytorch", 7: graph})
        return cls.encode(Table({0: version, 1: model}))

    @classmethod
    def read(cls, graph: Table | None, **options: Any) -> Model:
        (model,) = read(BytesSource(cls.file(graph, **options)))
        return model

    @classmethod
    def batch_norm(cls, x: str = "x", y: str = "y", **attributes: Any) -> Table:
        operands = f"{x} bn.weight bn.bias bn.running_mean bn.running_var"
        return cls.node("BatchNormalization", operands, y, **attributes)

    @classmethod
    def parameters(cls) -> list[Table]:
        roles = ("weight", "bias", "running_mean", "running_var")
        return [cls.floats(f"bn.{role}", i, i + 0.5) for i, role in enumerate(roles, 1)]


def _names(text: str) -> list[str]:
    return ["" if name == "-" else name for name in text.split()]


def _size(size: int | str | None) -> Table | None:
    if size is None:
        return None
    if isinstance(size, str):
        return Table({0: Number("b", 2), 2: size})
    return Table({0: Number("b", 1), 1: Number("q", size)})


@pytest.fixture(scope="session")
def ort() -> type[Ort]:
    return Ort
