"""A module tree as it lies in a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from bncheck.readers.module_tree import HOOKS
from bncheck.readers.torch.pickle_values import Dict, Instance, Value, attributes, mapping
from bncheck.readers.torch.storage import Storages
from bncheck.readers.torch.values import Parameter, parameter, parameters

# What torch.compile makes is pickled as a call with the module that it wraps.
_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"


def is_module(value: Value) -> bool:
    """Whether a pickled object has what every nn.Module has."""
    if not isinstance(value, Instance):
        return False
    held = attributes(value)
    whole = all(mapping(held.get(name)) is not None for name in ("_parameters", "_modules"))
    return whole or _is_compiled(value)


def _is_compiled(value: Instance) -> bool:
    return value.class_path == _COMPILED and bool(value.args) and value.state is None


class PickledModule:
    """See ModuleRecord; nothing of the module's own code is at hand, or needed."""

    def __init__(self, instance: Instance, storages: Storages) -> None:
        self._instance = instance
        self._storages = storages
        self.identity = id(instance)
        self.class_path = instance.class_path
        self.lineage = (self.class_path,)  # a pickle names no base classes
        self.attributes: Mapping[str, Any] = attributes(instance)

    @cached_property
    def parameters(self) -> Mapping[str, Parameter | None]:
        """See ModuleRecord."""
        return parameters(self._registered("_parameters"), self._storages)

    @cached_property
    def buffers(self) -> Mapping[str, Parameter | None]:
        """See ModuleRecord."""
        return parameters(self._registered("_buffers"), self._storages)

    @cached_property
    def children(self) -> Mapping[str, PickledModule]:
        """See ModuleRecord."""
        held = self._registered("_modules")
        self._storages.budget.step(len(held))
        # What is no module here may be one that is pickled in a way of its own.
        objects = {name: value for name, value in held.items() if isinstance(value, Instance)}
        return {name: PickledModule(value, self._storages) for name, value in objects.items()}

    def lookup(self, name: str) -> Parameter | None:
        """See ModuleRecord."""
        if name in self.attributes:
            return parameter(self.attributes[name], self._storages)
        return self.parameters.get(name) or self.buffers.get(name)

    @property
    def is_rewired(self) -> bool:
        """See ModuleRecord."""
        hooks = (self.attributes.get(name) for name in HOOKS)
        hooked = any(isinstance(held, Dict | Instance) and held.pairs for held in hooks)
        return hooked or "forward" in self.attributes

    def _registered(self, name: str) -> Mapping[str, Value]:
        if name == "_modules" and _is_compiled(self._instance):
            return {"_orig_mod": self._instance.args[0]}
        return mapping(self.attributes.get(name)) or {}
