"""What PyTorch's pickles mean: tensors, parameters, dictionaries and attributes of objects.

The functions that rebuild tensors, and their arguments: torch/_utils.py and torch/_tensor.py.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.readers.pickle_machine import Dict, Global, Instance, PersistentId, Value
from bncheck.tensor import ByteOrder, Tensor, decode, itemsize

MAX_ELEMENTS = 2**23  # of a tensor whose values are read
MAX_WRAPPERS = 16

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "untyped",
}


class Storages(Protocol):
    """The storages that lie beside a pickle."""

    @property
    def byteorder(self) -> ByteOrder:
        """Of every element."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Bytes of one storage; raises UnreadableModel where it is shorter."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor as a module holds it."""

    tensor: Tensor
    requires_grad: bool


def mapping(value: Value) -> dict[str, Value] | None:
    """A dictionary-like value whose keys are all strings, in Python's order; else None."""
    pairs = _pairs(value)
    if pairs is None or not all(isinstance(key, str) for key, _ in pairs):
        return None
    return dict(pairs)


def _pairs(value: Value) -> Sequence[tuple[Value, Value]] | None:
    match value:
        case Dict() | Instance(pairs=[_, *_]):
            return value.pairs
        case Instance(class_path="collections.OrderedDict", args=([*items],)):  # Python 2
            return [(pair[0], pair[1]) for pair in items if _is_pair(pair)]
        case Instance(class_path="collections.OrderedDict"):
            return ()
    return None


def _is_pair(value: Value) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def is_optimizer(value: Value) -> bool:
    """Whether this is the state_dict of an optimizer."""
    held = mapping(value) or {}
    return "param_groups" in held and "state" in held


def attributes(value: Value) -> dict[str, Value]:
    """What an object would hold in its ``__dict__`` and its slots."""
    if not isinstance(value, Instance):
        return {}
    parts = value.state if isinstance(value.state, tuple) else (value.state,)
    held: dict[str, Value] = {}
    for part in parts:
        held |= mapping(part) or {}
    return held


def parameter(value: Value, storages: Storages) -> Parameter | None:
    """A tensor or parameter, or None where the value is neither."""
    requires_grad = False
    for _ in range(MAX_WRAPPERS):
        if not isinstance(value, Instance) or not isinstance(value.called, Global):
            return None
        match value.called.path, value.args:
            case (
                "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
                (value, bool() as requires_grad, *_),
            ):
                continue
            case "torch._utils._rebuild_device_tensor_from_cpu_tensor", (value, *_):
                continue
            case "torch._tensor._rebuild_from_type_v2", (called, _, tuple() as args, *_):
                value = Instance(called, args)
                continue
            case "torch.nn.parameter.Parameter", (value,):
                requires_grad = True
                continue
            case path, args:
                tensor = _rebuilt(path, args, storages)
                if tensor is None:
                    return None
                return Parameter(tensor, requires_grad or _wants_grad(path, args))
    raise UnreadableModel("pickle wraps a tensor in itself")


def _wants_grad(path: str, args: tuple[Value, ...]) -> bool:
    return path.startswith("torch._utils._rebuild_tensor_v") and args[4] is True


def _rebuilt(path: str, args: tuple[Value, ...], storages: Storages) -> Tensor | None:
    match path.removeprefix("torch._utils."), args:
        case "_rebuild_tensor", (storage, offset, size, stride):
            return _strided(storage, offset, size, stride, None, storages)
        case "_rebuild_tensor_v2", (storage, offset, size, stride, _, _, *_):
            return _strided(storage, offset, size, stride, None, storages)
        case "_rebuild_tensor_v3", (storage, offset, size, stride, _, _, dtype, *_):
            return _strided(storage, offset, size, stride, _dtype(dtype), storages)
        case "_rebuild_meta_tensor_no_storage", (dtype, size, *_):
            return _opaque(_integers(size), _dtype(dtype), "the tensor is on the meta device")
        case "_rebuild_qtensor", (PersistentId() as storage, _, size, *_):
            return _opaque(_integers(size), place(storage).dtype, "the tensor is quantized")
        case "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor", (_, (_, _, size, *_)):
            return _opaque(_integers(size), "sparse", "the tensor is sparse")
        case "_rebuild_device_tensor_from_numpy", (_, dtype, *_):
            return _opaque((), _dtype(dtype), "the tensor was saved as a numpy array")
        case "_rebuild_wrapper_subclass", (_, dtype, size, *_):
            return _opaque(_integers(size), _dtype(dtype), "the tensor is of a wrapper subclass")
        case name, _ if name.startswith("_rebuild_") and path.startswith("torch._utils."):
            return _opaque((), "unknown", f"bncheck does not know torch's {name}")
    return None


def _opaque(shape: tuple[int, ...], dtype: str, why: str) -> Tensor:
    def load() -> array[float]:
        raise UnknownFact(Unknown("values", why, "give a plain dense checkpoint"))

    return Tensor(shape, dtype, load)


@dataclass(frozen=True, slots=True)
class Place:
    """A storage: its key, the dtype of its elements, and where a view of it begins."""

    key: str
    dtype: str
    offset: int = 0


def place(reference: Value) -> Place:
    """What a persistent id refers to. Raises UnreadableModel where that is no storage."""
    match reference:
        case PersistentId(value=("storage", Global() as kind, str(key), _, int(), *more)):
            dtype = _STORAGES.get(kind.name, "unknown")
            match more:  # PyTorch before 1.6 has a sixth value
                case [(_, int(offset), int()), *_] if offset >= 0:
                    return Place(key, dtype, offset)
                case [] | [None, *_]:
                    return Place(key, dtype)
    raise UnreadableModel("pickle refers to a storage in an unknown way")


def _dtype(value: Value) -> str:
    return value.name if isinstance(value, Global) else "unknown"


def _integers(value: Value) -> tuple[int, ...]:
    """A torch.Size or tuple of non-negative integers."""
    if isinstance(value, Instance) and value.class_path == "torch.Size" and value.args:
        value = value.args[0]
    if not isinstance(value, tuple | list) or not all(type(n) is int and n >= 0 for n in value):
        raise UnreadableModel("pickle gives a tensor a shape that no tensor can have")
    return tuple(value)


def _strided(
    storage: Value,
    offset: Value,
    size: Value,
    stride: Value,
    dtype: str | None,
    storages: Storages,
) -> Tensor:
    where = place(storage)
    shape, strides = _integers(size), _integers(stride)
    if len(shape) != len(strides) or type(offset) is not int or offset < 0:
        raise UnreadableModel("pickle gives a tensor strides that no tensor can have")
    view = _View(where.key, dtype or where.dtype, where.offset + offset, shape, strides)
    return Tensor(shape, view.dtype, lambda: _load(view, storages), storage=where.key)


@dataclass(frozen=True, slots=True)
class _View:
    """Where a tensor's elements lie in a storage; offset and strides in elements."""

    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def span(self) -> int:
        """How many elements of the storage the tensor stretches over."""
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))


def _load(view: _View, storages: Storages) -> array[float]:
    numel = prod(view.shape)
    if numel == 0:
        return array("d")
    if max(numel, view.span) > MAX_ELEMENTS:
        raise UnknownFact(Unknown("values", f"a tensor of over {MAX_ELEMENTS} elements is skipped"))
    width = itemsize(view.dtype)
    if width is None:
        raise UnknownFact(Unknown("values", f"values of dtype {view.dtype} are not decoded"))
    data = storages.read(view.key, view.offset * width, view.span * width)
    values = decode(data, view.dtype, storages.byteorder)
    if view.span == numel and _is_contiguous(view):
        return values
    indices = _indices(view.shape, view.strides)
    return array(values.typecode, (values[i] for i in indices))


def _is_contiguous(view: _View) -> bool:
    expected = 1
    for length, stride in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True


def _indices(shape: Sequence[int], strides: Sequence[int]) -> map[int]:
    """Positions of the elements in row-major order."""
    axes = [range(0, n * s, s) if s else [0] * n for n, s in zip(shape, strides, strict=True)]
    return map(sum, itertools.product(*axes))


def parameters(values: Mapping[str, Value], storages: Storages) -> dict[str, Parameter | None]:
    """The tensors among named values; None for a name that is registered without one."""
    found: dict[str, Parameter | None] = {}
    for name, value in values.items():
        held = None if value is None else parameter(value, storages)
        if held is not None or value is None:
            found[name] = held
    return found
