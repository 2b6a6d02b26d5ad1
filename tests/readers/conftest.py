"""Model files made by hand, byte by byte, so that the tests of the readers need no torch."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bncheck.model import Model
from bncheck.readers import read

STORAGES = {"f": "FloatStorage", "d": "DoubleStorage", "e": "HalfStorage", "q": "LongStorage"}


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names."""

    path: str


@dataclass(frozen=True)
class Call:
    """A call that a pickle makes, or a new object, and what it sets on the result."""

    path: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: tuple[tuple[Any, Any], ...] = ()
    new: bool = False


@dataclass(frozen=True)
class Reference:
    """A persistent id."""

    value: Any


class Pickler:
    """Writes protocol 2 as torch.save does; an object that comes twice is fetched from the memo."""

    def __init__(self) -> None:
        self._memo: dict[int, tuple[int, Any]] = {}

    def dump(self, value: Any) -> bytes:
        return b"\x80\x02" + self._write(value) + b"."

    def _write(self, value: Any) -> bytes:
        if id(value) in self._memo:
            return b"j" + struct.pack("<I", self._memo[id(value)][0])
        written = self._fresh(value)
        if isinstance(value, bool | int | float | tuple | None):
            return written
        index = len(self._memo)
        self._memo[id(value)] = (index, value)
        return written + b"r" + struct.pack("<I", index)

    def _fresh(self, value: Any) -> bytes:
        match value:
            case None | True | False:
                return {None: b"N", True: b"\x88", False: b"\x89"}[value]
            case int():
                data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
                return b"\x8a" + bytes([len(data)]) + data
            case float():
                return b"G" + struct.pack(">d", value)
            case str():
                data = value.encode("utf-8", "surrogatepass")
                return b"X" + struct.pack("<I", len(data)) + data
            case bytes():
                return b"B" + struct.pack("<I", len(value)) + value
            case tuple():
                return b"(" + b"".join(map(self._write, value)) + b"t"
            case list():
                return b"](" + b"".join(map(self._write, value)) + b"e"
            case dict():
                return b"}" + self._items(value.items())
            case Name(path):
                module, _, name = path.rpartition(".")
                return f"c{module}\n{name}\n".encode()
            case Reference(inner):
                return self._write(inner) + b"Q"
            case Call(path, args, state, items, new):
                made = self._write(Name(path)) + self._write(args) + (b"\x81" if new else b"R")
                made += self._items(items) if items else b""
                return made if state is None else made + self._write(state) + b"b"
        raise TypeError(value)

    def _items(self, items: Iterable[tuple[Any, Any]]) -> bytes:
        return b"(" + b"".join(self._write(k) + self._write(v) for k, v in items) + b"u"


@dataclass
class Entry:
    """A file of a zip archive, and what its local header says otherwise than the directory."""

    name: str
    data: bytes = b""
    flags: int = 0
    method: int = 0
    size: int | None = None
    local: Mapping[str, Any] = field(default_factory=dict)
    extra: bytes = b""
    offset: int | None = None  # in the directory
    attributes: int = 0

    @property
    def stored(self) -> bytes:
        if self.method != 8:
            return self.data
        deflate = zlib.compressobj(wbits=-15)
        return deflate.compress(self.data) + deflate.flush()

    def header(self) -> bytes:
        sizes = {"size": self.length, "compressed": len(self.stored)}
        own = {"name": self.name, "flags": self.flags, "method": self.method}
        fields = {**own, **sizes, **self.local}
        name = fields["name"].encode()
        numbers = (fields["flags"], fields["method"], 0, 0, 0, fields["compressed"], fields["size"])
        return struct.pack("<4s5H3L2H", b"PK\3\4", 20, *numbers, len(name), 0) + name

    def directory(self, offset: int) -> bytes:
        name = self.name.encode()
        at = offset if self.offset is None else self.offset
        numbers = (self.flags, self.method, 0, 0, 0, len(self.stored), self.length)
        lengths = (len(name), len(self.extra), 0, 0, 0, self.attributes, at)
        header = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, *numbers, *lengths)
        return header + name + self.extra

    @property
    def length(self) -> int:
        return len(self.data) if self.size is None else self.size


class Make:
    """Makers of bytes."""

    Name, Call, Reference, Entry = Name, Call, Reference, Entry

    @staticmethod
    def pickle(value: Any) -> bytes:
        return Pickler().dump(value)

    @staticmethod
    def zip(*entries: Entry, begin: int = 0, comment: bytes = b"", **end: int) -> bytes:
        """An archive that says it begins at ``begin``; ``end``: fields of its end record."""
        body, directory = b"", b""
        for entry in entries:
            directory += entry.directory(begin + len(body))
            body += entry.header() + entry.stored
        fields = {"count": len(entries), "size": len(directory), "offset": begin + len(body), **end}
        numbers = (fields["count"], fields["count"], fields["size"], fields["offset"])
        tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *numbers, len(comment))
        return body + directory + tail + comment

    @classmethod
    def torch(
        cls, value: Any, storages: Mapping[str, bytes] = {}, root: str = "archive", **notes: bytes
    ) -> bytes:
        """What torch.save writes: ``notes`` are further small entries, such as byteorder."""
        named = {"data.pkl": cls.pickle(value), "version": b"3\n", **notes}
        named |= {f"data/{key}": data for key, data in storages.items()}
        return cls.zip(*(Entry(f"{root}/{name}", data) for name, data in named.items()))

    @staticmethod
    def storage(key: str, length: int, kind: str = "FloatStorage") -> Reference:
        return Reference(("storage", Name(f"torch.{kind}"), key, "cpu", length))

    @classmethod
    def tensor(
        cls,
        key: str,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
        offset: int = 0,
        kind: str = "FloatStorage",
        **set_after: Any,
    ) -> Call:
        """A call of _rebuild_tensor_v2; ``set_after``: a state, or items."""
        steps = [1]
        for length in reversed(shape[1:]):
            steps.insert(0, steps[0] * length)
        strides = tuple(steps[: len(shape)]) if strides is None else strides
        length = offset + 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=False))
        storage = cls.storage(key, length, kind)
        args = (storage, offset, shape, strides, False, Call("collections.OrderedDict"))
        return Call("torch._utils._rebuild_tensor_v2", args, **set_after)

    @classmethod
    def batch_norm(cls, channels: int = 4, prefix: str = "bn", key: str = "") -> dict[str, Any]:
        """The entries of a state_dict; the storages are those of ``batch_norm_data``."""
        roles = ("weight", "bias", "running_mean", "running_var")
        return {f"{prefix}.{role}": cls.tensor(f"{key}{role}", (channels,)) for role in roles}

    @staticmethod
    def batch_norm_data(channels: int = 4, key: str = "") -> dict[str, bytes]:
        values = {"weight": 1.5, "bias": 0.5, "running_mean": 0.25, "running_var": 2.0}
        return {
            f"{key}{r}": struct.pack(f"<{channels}f", *[v] * channels) for r, v in values.items()
        }

    @classmethod
    def module(
        cls,
        path: str,
        children: Mapping[str, Any] = {},
        parameters: Mapping[str, Any] = {},
        buffers: Mapping[str, Any] = {},
        training: bool = False,
        **attributes: Any,
    ) -> Call:
        """A pickled nn.Module."""
        registered = {
            "_parameters": Call("collections.OrderedDict", (), None, tuple(parameters.items())),
            "_buffers": Call("collections.OrderedDict", (), None, tuple(buffers.items())),
            "_modules": Call("collections.OrderedDict", (), None, tuple(children.items())),
        }
        return Call(path, (), {"training": training, **registered, **attributes}, new=True)


@pytest.fixture
def make() -> type[Make]:
    return Make


@pytest.fixture
def read_bytes(tmp_path: Path) -> Callable[..., tuple[Model, ...]]:
    """Reads bytes as a file of the given name."""

    def read_as(data: bytes, name: str = "model.pt") -> tuple[Model, ...]:
        path = tmp_path / name
        path.write_bytes(data)
        return read(path)

    return read_as
