"""Live objects: an nn.Module, an ExportedProgram, a state_dict, an onnx.ModelProto.

Their libraries are found among what the caller has already imported; none is imported here.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from bncheck.errors import ConfigurationError, NotAModel, UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.model import Model
from bncheck.readers import onnx
from bncheck.readers.build import Origin, from_module, from_state_dict
from bncheck.readers.nn_module import HOOKS
from bncheck.readers.source import BytesSource
from bncheck.readers.torch.values import NOT_INITIALIZED, Parameter
from bncheck.tensor import Tensor


def read(target: object, inputs: object | None = None) -> tuple[Model, ...]:
    """The model that an object is; ``inputs`` are the arguments of a call of an nn.Module.

    Raises NotAModel for anything else, ConfigurationError for inputs of anything else.
    """
    torch: Any = sys.modules.get("torch")
    if torch and isinstance(target, torch.jit.ScriptModule):
        raise UnreadableModel("is a ScriptModule: give the nn.Module that it was made from")
    if torch and isinstance(target, torch.nn.Module):
        state = "the module is in training mode" if target.training else None
        model = from_module(LiveModule(target), Origin("module", training_state=state))
        return (_traced(model, target, inputs),)
    if inputs is not None:
        raise ConfigurationError("inputs are for an nn.Module: nothing else is run")
    if _is_exported_program(target):
        return (_exported(target),)
    if isinstance(target, Mapping):
        return (_state_dict(target),)
    if type(target).__name__ == "ModelProto" and hasattr(target, "SerializeToString"):
        return onnx.read(BytesSource(_serialized(target)))
    raise NotAModel(
        f"a {type(target).__name__} is no model: give a path, an nn.Module, an ExportedProgram, "
        "a state_dict or an onnx.ModelProto"
    )


def _traced(model: Model, module: Any, inputs: object | None) -> Model:
    from bncheck.readers import tracing

    return tracing.with_graph(model, module, inputs)


def _is_exported_program(target: object) -> bool:
    export: Any = sys.modules.get("torch.export.exported_program")
    return bool(export) and isinstance(target, export.ExportedProgram)


def _exported(program: Any) -> Model:
    from bncheck.readers import exported
    from bncheck.readers.tracing.exported_program import read_program

    try:
        return exported.model(read_program(program))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableModel(
            "is an ExportedProgram in a form that bncheck does not know: give the .pt2 instead"
        ) from error


def _state_dict(target: Mapping[Any, Any]) -> Model:
    held = {str(k): v for k, v in target.items() if _is_tensor(v) and not _is_uninitialized(v)}
    tensors = {name: _tensor(value) for name, value in held.items()}
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
        return _path(type(self._module))

    @property
    def lineage(self) -> tuple[str, ...]:
        """See ModuleRecord."""
        return tuple(map(_path, type(self._module).__mro__))

    @property
    def attributes(self) -> Mapping[str, object]:
        """See ModuleRecord."""
        return dict(vars(self._module))

    @property
    def is_rewired(self) -> bool:
        """See ModuleRecord."""
        held = vars(self._module)
        return any(held.get(name) for name in HOOKS) or "forward" in held

    def lookup(self, name: str) -> Parameter | None:
        """See ModuleRecord."""
        if name in self.attributes:
            held = self.attributes[name]
            return parameter(held) if _is_tensor(held) else None
        if name in getattr(self._module, "parametrizations", ()):
            return Parameter(Unknown(name, "it is computed by a parametrization"), True)
        return self.parameters.get(name) or self.buffers.get(name)

    @cached_property
    def parameters(self) -> Mapping[str, Parameter | None]:
        """See ModuleRecord."""
        return {name: parameter(held) for name, held in self._module._parameters.items()}

    @cached_property
    def buffers(self) -> Mapping[str, Parameter | None]:
        """See ModuleRecord."""
        return {name: parameter(held) for name, held in self._module._buffers.items()}

    @cached_property
    def children(self) -> Mapping[str, LiveModule]:
        """See ModuleRecord."""
        held = self._module._modules.items()
        return {name: LiveModule(child) for name, child in held if child is not None}


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def parameter(held: Any) -> Parameter | None:
    """A torch.Tensor of this process; None for None."""
    if held is None:
        return None
    if _is_uninitialized(held):
        return Parameter(Unknown("values", NOT_INITIALIZED), bool(held.requires_grad))
    known = _tensor(held) if _is_tensor(held) else Unknown("tensor", "it has no one shape")
    return Parameter(known, bool(held.requires_grad))


def _is_tensor(value: Any) -> bool:
    try:
        return all(hasattr(value, name) for name in ("shape", "dtype", "tolist"))
    except RuntimeError:  # a nested tensor
        return False


def _tensor(held: Any) -> Tensor:
    """A torch.Tensor or a numpy array; its values are copied on first touch."""
    dtype = str(held.dtype).removeprefix("torch.")
    return Tensor(tuple(map(int, held.shape)), dtype, lambda: _values(held), _storage(held))


def _is_uninitialized(held: Any) -> bool:
    torch: Any = sys.modules.get("torch")
    return bool(torch) and isinstance(held, torch.nn.parameter.UninitializedTensorMixin)


def _values(held: Any) -> array[float]:
    try:
        dense = held.detach().to("cpu") if hasattr(held, "detach") else held
        return array("d", dense.flatten().tolist())  # a complex number is no float: TypeError
    except Exception as error:  # whatever a tensor's own class raises
        return _fail(f"this tensor gives none ({str(error).partition(chr(10))[0]})")


def _fail(why: str) -> array[float]:
    raise UnknownFact(Unknown("values", why))


def _storage(held: Any) -> int | None:
    try:
        return int(held.untyped_storage().data_ptr()) or None
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
