"""What PyTorch's pickles mean: tensors and parameters.

The functions that rebuild tensors, and their arguments: torch/_utils.py and torch/_tensor.py.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import NamedTuple

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.readers.torch.pickle_values import (
    UNREAD,
    Dict,
    Global,
    Instance,
    PersistentId,
    Value,
    mapping,
)
from bncheck.readers.torch.storage import Storages, integers, place, strided
from bncheck.tensor import Tensor

MAX_WRAPPERS = 16
MAX_ARGUMENTS = 16
NOT_INITIALIZED = "the lazy layer has not seen an input yet"
_OF_SUBCLASSES = frozenset(
    f"{module}._rebuild_from_type{version}"
    for module in ("torch._tensor", "torch.tensor")  # torch.tensor: before 1.9
    for version in ("", "_v2")
)
_WRAPPERS = _OF_SUBCLASSES | {
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    "torch.nn.parameter.Parameter",
}
# Python cannot hold these among a tensor's own attributes: to set one is to change the tensor.
_SETTERS = frozenset({"data", "real", "imag", "requires_grad"})


class Parameter(NamedTuple):
    """A tensor as a module holds it; unknown where only that it exists is known."""

    tensor: Tensor | Unknown
    requires_grad: bool


def is_optimizer(value: Value) -> bool:
    """Whether this is the state_dict of an optimizer."""
    if not isinstance(value, Dict | Instance) or not value.pairs:
        return False
    held = mapping(value) or {}
    return "param_groups" in held and "state" in held


def parameter(value: Value, storages: Storages) -> Parameter | None:
    """A tensor or parameter, or None where the value is neither; made once for one value.

    Raises UnreadableModel where the pickle contradicts itself, or changes the tensor afterwards.
    """
    if not isinstance(value, Instance):
        return None
    if value.tensor is UNREAD:
        value.tensor = _parameter(value, storages)
        if value.tensor is not None:
            value.args = ()  # nothing asks for more; a file may hold very many
    found: Parameter | None = value.tensor
    return found


def _parameter(value: Value, storages: Storages) -> Parameter | None:
    wants_grad: bool | None = None
    for _ in range(MAX_WRAPPERS):
        if not isinstance(value, Instance) or not isinstance(value.called, Global):
            return None
        if len(value.args) > MAX_ARGUMENTS:
            return None
        path = value.called.path
        inner = _wrapped(path, value.args) if path in _WRAPPERS else None
        if inner is None:
            tensor = _rebuilt(path, value.args, storages)
            if tensor is None:
                return None
            _require_unchanged(value, None)
            if wants_grad is None:
                wants_grad = _wants_grad(path, value.args)
            return Parameter(tensor, wants_grad)
        _require_unchanged(value, inner.state)
        value = inner.value
        wants_grad = inner.requires_grad if wants_grad is None else wants_grad
    raise UnreadableModel("pickle wraps a tensor in itself")


class _Wrapped(NamedTuple):
    """What a function is given that makes one tensor of another."""

    value: Value
    requires_grad: bool | None = None
    state: Value = None


def _wrapped(path: str, args: tuple[Value, ...]) -> _Wrapped | None:
    match path, args:
        case "torch._utils._rebuild_parameter", (value, bool() as requires_grad, *_):
            return _Wrapped(value, requires_grad)
        case (
            "torch._utils._rebuild_parameter_with_state",
            (value, bool() as requires_grad, _, state),
        ):
            return _Wrapped(value, requires_grad, state)
        case (
            "torch._utils._rebuild_device_tensor_from_cpu_tensor",
            (value, _, _, bool() as requires_grad),
        ):
            return _Wrapped(value, requires_grad)
        case _, (called, _, tuple() as inner, state) if path in _OF_SUBCLASSES:
            return _Wrapped(Instance(called, inner), None, state)
        case "torch.nn.parameter.Parameter", (value,):
            return _Wrapped(value, True)
    return None


def _require_unchanged(made: Instance, state: Value) -> None:
    """PyTorch lets a pickle replace a tensor's data by a state, or set its elements."""
    if state is None and not made.is_changed:
        return
    parts = state if isinstance(state, tuple) else (state,)
    changes = [name for part in parts[:2] for name in _SETTERS & (mapping(part) or {}).keys()]
    if made.is_changed or changes:
        raise UnreadableModel("pickle changes a tensor after it was made, which PyTorch never does")


def _wants_grad(path: str, args: tuple[Value, ...]) -> bool:
    is_dense = path.startswith("torch._utils._rebuild_tensor_v")
    return is_dense and args[4:5] == (True,)


def _rebuilt(path: str, args: tuple[Value, ...], storages: Storages) -> Tensor | Unknown | None:
    if path.startswith("torch.nn.parameter.Uninitialized"):
        return Unknown("values", NOT_INITIALIZED)
    match path.removeprefix("torch._utils."), args:
        case "_rebuild_tensor", (storage, offset, size, stride):
            return strided(storage, offset, size, stride, None, storages)
        case "_rebuild_tensor_v2", (storage, offset, size, stride, _, _, *more):
            tensor = strided(storage, offset, size, stride, None, storages)
            return _as_marked(tensor, more)
        case "_rebuild_tensor_v3", (storage, offset, size, stride, _, _, dtype, *more):
            tensor = strided(storage, offset, size, stride, _dtype(dtype), storages)
            return _as_marked(tensor, more)
        case "_rebuild_meta_tensor_no_storage", (dtype, size, *_):
            return _opaque(integers(size), _dtype(dtype), "the tensor is on the meta device")
        case "_rebuild_qtensor", (PersistentId() as storage, _, size, *_):
            return _opaque(integers(size), place(storage).dtype, "the tensor is quantized")
        case "_rebuild_sparse_tensor", (Instance() as layout, tuple() as data):
            return _sparse(layout, data)
        case "_rebuild_wrapper_subclass", (_, dtype, size, *_):
            return _opaque(integers(size), _dtype(dtype), "the tensor is of a wrapper subclass")
        case name, _ if name.startswith("_rebuild_") and path.startswith("torch._utils."):
            return Unknown("tensor", f"bncheck does not read what torch's {name} makes")
    return None


def _as_marked(tensor: Tensor, more: list[Value]) -> Tensor:
    """A tensor whose elements PyTorch negates or conjugates on use is marked so."""
    if not more or more[0] is None or (isinstance(more[0], Dict) and not more[0].pairs):
        return tensor
    if mapping(more[0]) == {"neg": True}:
        return Tensor(tensor.shape, tensor.dtype, lambda: _negated(tensor), tensor.storage)
    return _opaque(tensor.shape, tensor.dtype, "the tensor is conjugated on use")


def _negated(tensor: Tensor) -> array[float]:
    return array("d", (-value for value in tensor.values))


def _sparse(layout: Instance, data: tuple[Value, ...]) -> Tensor | Unknown:
    """COO: indices, values, size, is_coalesced. The others: two kinds of indices, values, size."""
    place_of_size = 2 if "torch.sparse_coo" in layout.args else 3
    if len(data) <= place_of_size:
        raise UnreadableModel("pickle holds half of a sparse tensor")
    return _opaque(integers(data[place_of_size]), "sparse", "the tensor is sparse")


def _dtype(value: Value) -> str:
    return value.name if isinstance(value, Global) else "unknown"


def _opaque(shape: tuple[int, ...], dtype: str, why: str) -> Tensor:
    def load() -> array[float]:
        raise UnknownFact(Unknown("values", why, "give a plain dense checkpoint"))

    return Tensor(shape, dtype, load)


def parameters(values: Mapping[str, Value], storages: Storages) -> dict[str, Parameter | None]:
    """The tensors among named values; None for a name that is registered without one."""
    storages.budget.step(len(values))
    found: dict[str, Parameter | None] = {}
    for name, value in values.items():
        held = None if value is None else parameter(value, storages)
        if held is not None or value is None:
            found[name] = held
    return found
