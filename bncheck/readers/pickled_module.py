"""A module tree as it lies in a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from bncheck.readers.pickle_machine import Instance, Value
from bncheck.readers.torch_values import Parameter, Storages, attributes, mapping, parameters


def is_module(value: Value) -> bool:
    """Whether a pickled object has what every nn.Module has."""
    held = attributes(value)
    return all(mapping(held.get(name)) is not None for name in ("_parameters", "_modules"))


class PickledModule:
    """See ModuleRecord; nothing of the module's own code is at hand, or needed."""

    def __init__(self, instance: Instance, storages: Storages) -> None:
        self._instance = instance
        self._storages = storages

    @property
    def identity(self) -> int:
        """See ModuleRecord."""
        return id(self._instance)

    @property
    def class_path(self) -> str:
        """See ModuleRecord."""
        return self._instance.class_path

    @cached_property
    def attributes(self) -> Mapping[str, object]:
        """See ModuleRecord."""
        return attributes(self._instance)

    @cached_property
    def parameters(self) -> Mapping[str, Parameter | None]:
        """See ModuleRecord."""
        return parameters(mapping(self.attributes.get("_parameters")) or {}, self._storages)

    @cached_property
    def buffers(self) -> Mapping[str, Parameter | None]:
        """See ModuleRecord."""
        return parameters(mapping(self.attributes.get("_buffers")) or {}, self._storages)

    @cached_property
    def children(self) -> Mapping[str, PickledModule]:
        """See ModuleRecord."""
        held = mapping(self.attributes.get("_modules")) or {}
        return {n: PickledModule(m, self._storages) for n, m in held.items() if is_module(m)}
