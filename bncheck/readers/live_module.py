"""The modules and tensors of this process, as records and lazy tensors."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from bncheck.facts import Unknown, UnknownFact
from bncheck.readers.module_tree import HOOKS
from bncheck.readers.torch.values import NOT_INITIALIZED, Parameter
from bncheck.tensor import Tensor


class LiveModule:
    """An nn.Module of this process; see module_tree.ModuleRecord."""

    def __init__(self, module: Any) -> None:
        self.module = module

    @property
    def identity(self) -> int:
        """See ModuleRecord."""
        return id(self.module)

    @cached_property
    def class_path(self) -> str:
        """See ModuleRecord."""
        return _path(type(self.module))

    @cached_property
    def lineage(self) -> tuple[str, ...]:
        """See ModuleRecord."""
        return tuple(map(_path, type(self.module).__mro__))

    @property
    def attributes(self) -> Mapping[str, object]:
        """See ModuleRecord."""
        return MappingProxyType(vars(self.module))

    @property
    def is_rewired(self) -> bool:
        """See ModuleRecord."""
        held = vars(self.module)
        return any(held.get(name) for name in HOOKS) or "forward" in held

    def lookup(self, name: str) -> Parameter | None:
        """See ModuleRecord."""
        if name in self.attributes:
            held = self.attributes[name]
            return parameter(held) if _is_tensor(held) else None
        if name in getattr(self.module, "parametrizations", ()):
            return Parameter(Unknown(name, "it is computed by a parametrization"), True)
        return self.parameters.get(name) or self.buffers.get(name)

    @cached_property
    def parameters(self) -> Mapping[str, Parameter | None]:
        """See ModuleRecord."""
        return {name: parameter(held) for name, held in self.module._parameters.items()}

    @cached_property
    def buffers(self) -> Mapping[str, Parameter | None]:
        """See ModuleRecord."""
        return {name: parameter(held) for name, held in self.module._buffers.items()}

    @cached_property
    def children(self) -> Mapping[str, LiveModule]:
        """See ModuleRecord."""
        held = self.module._modules.items()
        return {name: LiveModule(child) for name, child in held if child is not None}


def defined_in(module: Any) -> str:
    """The Python module that the forward of a module is from."""
    try:
        return type(module).forward.__module__ or ""
    except AttributeError:  # a ScriptModule has one for each of its own
        return type(module).__module__


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def parameter(held: Any) -> Parameter | None:
    """A torch.Tensor of this process; None for None."""
    if held is None:
        return None
    if _is_uninitialized(held):
        return Parameter(Unknown("values", NOT_INITIALIZED), bool(held.requires_grad))
    known = tensor(held) if _is_tensor(held) else Unknown("tensor", "it has no one shape")
    return Parameter(known, bool(held.requires_grad))


def is_dense_tensor(value: Any) -> bool:
    """Whether a value is a torch.Tensor or a numpy array, with elements."""
    return _is_tensor(value) and not _is_uninitialized(value)


def _is_tensor(value: Any) -> bool:
    try:
        return all(hasattr(value, name) for name in ("shape", "dtype", "tolist"))
    except RuntimeError:  # a nested tensor
        return False


def tensor(held: Any) -> Tensor:
    """A torch.Tensor or a numpy array; its values are copied on first touch."""
    dtype = str(held.dtype).removeprefix("torch.")
    return Tensor(tuple(map(int, held.shape)), dtype, lambda: _values(held), _storage(held))


def _is_uninitialized(held: Any) -> bool:
    torch: Any = sys.modules.get("torch")
    return bool(torch) and isinstance(held, torch.nn.parameter.UninitializedTensorMixin)


def _values(held: Any) -> array[float]:
    try:
        dense = held.detach().to("cpu") if hasattr(held, "detach") else held
        if _is_plain_tensor(dense) and not dense.is_complex():
            values = array("d")
            values.frombytes(dense.double().contiguous().numpy().tobytes())
            return values
        return array("d", dense.flatten().tolist())  # a complex number is no float: TypeError
    except Exception as error:  # whatever a tensor's own class raises
        return _fail(f"this tensor gives none ({str(error).partition(chr(10))[0]})")


def _is_plain_tensor(held: Any) -> bool:
    torch: Any = sys.modules.get("torch")
    return bool(torch) and type(held) in (torch.Tensor, torch.nn.Parameter)


def _fail(why: str) -> array[float]:
    raise UnknownFact(Unknown("values", why))


def _storage(held: Any) -> int | None:
    try:
        return int(held.untyped_storage().data_ptr()) or None
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
