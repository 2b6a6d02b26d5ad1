"""Live objects: an nn.Module, an ExportedProgram, a state_dict, an onnx.ModelProto.

Their libraries are found among what the caller has already imported; none is imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bncheck.errors import ConfigurationError, NotAModel, UnreadableModel
from bncheck.model import Model
from bncheck.readers import graph_model, onnx
from bncheck.readers.build import Origin, from_module, from_state_dict
from bncheck.readers.live_module import LiveModule, is_dense_tensor, tensor
from bncheck.readers.source import BytesSource


def read(target: object, inputs: object | None = None) -> tuple[Model, ...]:
    """The model that an object is; ``inputs`` are the arguments of a call of an nn.Module.

    Raises NotAModel for anything else, ConfigurationError for inputs of anything else.
    """
    torch: Any = sys.modules.get("torch")
    if torch and isinstance(target, torch.jit.ScriptModule):
        raise UnreadableModel("is a ScriptModule: give the nn.Module that it was made from")
    if torch and isinstance(target, torch.nn.Module):
        state = "the module is in training mode" if target.training else None
        root = LiveModule(target)
        model = _traced(from_module(root, Origin("module", training_state=state)), root, inputs)
        return (_with_batch_size(model, inputs),)
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


def _traced(model: Model, root: LiveModule, inputs: object | None) -> Model:
    from bncheck.readers import tracing

    return tracing.with_graph(model, root, inputs)


def _with_batch_size(model: Model, inputs: object | None) -> Model:
    """In training mode, the batch of the inputs is one to take statistics from."""
    if inputs is None or not model.training_state or not model.knows(Model.order):
        return model
    size = graph_model.batch_size(model.order, model.layers, "the inputs given")
    return replace(model, facts={**model.facts, "batch_size": size})


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
    held = {str(k): v for k, v in target.items() if is_dense_tensor(v)}
    tensors = {name: tensor(value) for name, value in held.items()}
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
