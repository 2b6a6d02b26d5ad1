"""Live objects: an nn.Module, a state_dict, an onnx.ModelProto.

Their libraries are found among what the caller has already imported; none is imported here.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.model import Model
from bncheck.readers import onnx
from bncheck.readers.build import Origin, from_module, from_state_dict
from bncheck.readers.source import BytesSource
from bncheck.readers.torch_values import Parameter
from bncheck.tensor import Tensor


def read(target: object) -> tuple[Model, ...]:
    """The model that an object is. Raises NotAModel for anything else."""
    torch: Any = sys.modules.get("torch")
    if torch and isinstance(target, torch.jit.ScriptModule):
        raise UnreadableModel("is a ScriptModule: give the nn.Module that it was made from")
    if torch and isinstance(target, torch.nn.Module):
        state = "the module is in training mode" if target.training else None
        return (from_module(LiveModule(target), Origin("module", training_state=state)),)
    if isinstance(target, Mapping):
        return (_state_dict(target),)
    if type(target).__name__ == "ModelProto" and hasattr(target, "SerializeToString"):
        return onnx.read(BytesSource(_serialized(target)))
    raise NotAModel(
        f"a {type(target).__name__} is no model: give a path, an nn.Module, a state_dict "
        "or an onnx.ModelProto"
    )


def _state_dict(target: Mapping[Any, Any]) -> Model:
    tensors = {str(k): _tensor(v) for k, v in target.items() if _is_tensor(v)}
    if not tensors:
        raise NotAModel("a mapping without tensors is no state_dict")
    metadata: Mapping[str, Any] = getattr(target, "_metadata", None) or {}
    versions = {name: held["version"] for name, held in metadata.items() if "version" in held}
    return from_state_dict(tensors, versions, "state_dict", Origin("module"))


def _serialized(proto: Any) -> bytes:
    try:
        return bytes(proto.SerializeToString())
    except Exception as error:  # protobuf's own error type is not at hand
        raise UnreadableModel(
            "a ModelProto over 2 GB cannot be serialized: save it with external data "
            "and give the path"
        ) from error


class LiveModule:
    """An nn.Module of this process; see nn_module.ModuleRecord."""

    def __init__(self, module: Any) -> None:
        self._module = module

    @property
    def identity(self) -> int:
        """See ModuleRecord."""
        return id(self._module)

    @property
    def class_path(self) -> str:
        """See ModuleRecord."""
        kind = type(self._module)
        return f"{kind.__module__}.{kind.__qualname__}"

    @property
    def attributes(self) -> Mapping[str, object]:
        """See ModuleRecord."""
        return dict(vars(self._module))

    @cached_property
    def parameters(self) -> Mapping[str, Parameter | None]:
        """See ModuleRecord."""
        return {name: _parameter(held) for name, held in self._module._parameters.items()}

    @cached_property
    def buffers(self) -> Mapping[str, Parameter | None]:
        """See ModuleRecord."""
        return {name: _parameter(held) for name, held in self._module._buffers.items()}

    @cached_property
    def children(self) -> Mapping[str, LiveModule]:
        """See ModuleRecord."""
        held = self._module._modules.items()
        return {name: LiveModule(child) for name, child in held if child is not None}


def _parameter(held: Any) -> Parameter | None:
    return None if held is None else Parameter(_tensor(held), bool(held.requires_grad))


def _is_tensor(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("shape", "dtype", "tolist"))


def _tensor(held: Any) -> Tensor:
    """A torch.Tensor or a numpy array; its values are copied on first touch."""
    dtype = str(held.dtype).removeprefix("torch.")
    if _is_uninitialized(held):
        return Tensor((), dtype, lambda: _fail("the lazy layer has not seen an input yet"))
    return Tensor(tuple(map(int, held.shape)), dtype, lambda: _values(held), _storage(held))


def _is_uninitialized(held: Any) -> bool:
    torch: Any = sys.modules.get("torch")
    return bool(torch) and isinstance(held, torch.nn.parameter.UninitializedTensorMixin)


def _values(held: Any) -> array[float]:
    try:
        dense = held.detach().to("cpu") if hasattr(held, "detach") else held
        exact = dense.double() if hasattr(dense, "double") else dense.astype("float64")
        return array("d", exact.flatten().tolist())
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        return _fail(f"this tensor gives none ({str(error).partition(chr(10))[0]})")


def _fail(why: str) -> array[float]:
    raise UnknownFact(Unknown("values", why))


def _storage(held: Any) -> int | None:
    try:
        return int(held.untyped_storage().data_ptr()) or None
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
