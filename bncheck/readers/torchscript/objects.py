"""The objects of an archive: modules as layers are read from, and values for its code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from bncheck.readers.nn_module import STATISTICS
from bncheck.readers.torch.pickle_values import Instance, Value, attributes
from bncheck.readers.torch.storage import Storages
from bncheck.readers.torch.values import Parameter, parameter
from bncheck.readers.torchscript.library import ROOT, Library, ScriptClass, original
from bncheck.readers.torchscript.program import Unclear
from bncheck.tensor import Tensor

CPP_CLASSES = f"{ROOT}.torch.classes."
PARAMETERS, BUFFERS = "__parameters__", "__buffers__"
HOOKS = ("__forward_hooks__", "__forward_pre_hooks__")


class Objects:
    """Makes one ScriptObject of each pickled instance, and one Parameter of each tensor.

    The two pickles of an archive each number their storages, which lie in a folder of their own.
    """

    def __init__(self, library: Library, storages: Storages, folder: str) -> None:
        self.library = library
        self.storages = storages
        self._folder = folder
        self._objects: dict[int, ScriptObject] = {}
        self._tensors: dict[int, Parameter | None] = {}

    def object(self, instance: Instance) -> ScriptObject:
        """The object that an instance stands for."""
        return self._objects.setdefault(id(instance), ScriptObject(instance, self))

    def tensor(self, value: Value) -> Parameter | None:
        """The tensor that a value is, None for any other value."""
        if not isinstance(value, Instance):
            return None
        if id(value) not in self._tensors:
            found = self._tensors[id(value)] = parameter(value, self.storages)
            if found is not None and isinstance(found.tensor, Tensor):
                found.tensor.storage = (self._folder, found.tensor.storage)
        return self._tensors[id(value)]


class ScriptObject:
    """An object of a class that the archive's code defines; of modules, see ModuleRecord."""

    def __init__(self, instance: Instance, objects: Objects) -> None:
        self._instance = instance
        self._objects = objects

    @property
    def identity(self) -> int:
        """See ModuleRecord."""
        return id(self._instance)

    @property
    def class_name(self) -> str:
        """The name under which the code defines the class."""
        return self._instance.class_path

    @property
    def class_path(self) -> str:
        """See ModuleRecord: the class in Python from which the archive was made."""
        return original(self.class_name)

    @property
    def lineage(self) -> tuple[str, ...]:
        """See ModuleRecord; an archive names no base classes."""
        return (self.class_path,)

    @cached_property
    def script_class(self) -> ScriptClass | None:
        """What the code says of the class; None where it does not define it, or is unclear."""
        try:
            return self._objects.library.class_named(self.class_name)
        except Unclear:
            return None

    @property
    def is_module(self) -> bool:
        """Whether this is a module, as far as can be told."""
        if self.script_class is not None:
            return self.script_class.base == "Module"
        name = self.class_name
        return name.startswith(f"{ROOT}.") and not name.startswith(CPP_CLASSES)

    @property
    def is_rewired(self) -> bool:
        """See ModuleRecord."""
        return self.script_class is None or any(map(self._listed, HOOKS))

    @property
    def reads_mode(self) -> bool:
        """Whether eval() changes what the module does."""
        return self.script_class is not None and self.script_class.reads_mode

    @property
    def is_scripted(self) -> bool:
        """Whether the module was scripted; of some that do nothing it cannot be told."""
        return self.script_class is not None and (
            self.reads_mode or bool(self.script_class.constants)
        )

    @property
    def is_sealed(self) -> bool:
        """Whether only a method of its class understands what was saved of it."""
        return self._instance.state is not None and not self.held

    @property
    def held(self) -> Mapping[str, Value]:
        """All that the object holds, as pickled values."""
        return attributes(self._instance)

    @cached_property
    def attributes(self) -> Mapping[str, object]:
        """See ModuleRecord; constants of the class count."""
        constants = self.script_class.constants if self.script_class else {}
        registered = {*self._parameter_names, *self._buffer_names}
        return {**constants, **{n: v for n, v in self.held.items() if n not in registered}}

    @cached_property
    def parameters(self) -> Mapping[str, Parameter | None]:
        """See ModuleRecord."""
        return dict(self._tensors(self._parameter_names))

    @cached_property
    def buffers(self) -> Mapping[str, Parameter | None]:
        """See ModuleRecord."""
        return dict(self._tensors(self._buffer_names))

    @cached_property
    def children(self) -> Mapping[str, ScriptObject]:
        """See ModuleRecord."""
        found: dict[str, ScriptObject] = {}
        self._objects.storages.budget.step(len(self.held))
        for name, value in self.held.items():
            if isinstance(value, Instance) and self._objects.object(value).is_module:
                found[name] = self._objects.object(value)
        return found

    def lookup(self, name: str) -> Parameter | None:
        """See ModuleRecord."""
        return self._objects.tensor(self.held.get(name))

    @cached_property
    def _parameter_names(self) -> tuple[str, ...]:
        if self.script_class is not None and PARAMETERS in self.script_class.lists:
            return self._listed(PARAMETERS)
        return tuple(name for name in self._tensor_names if name not in STATISTICS)

    @cached_property
    def _buffer_names(self) -> tuple[str, ...]:
        """Archives of old say only which tensors are parameters."""
        if self.script_class is not None and BUFFERS in self.script_class.lists:
            return self._listed(BUFFERS)
        return tuple(name for name in self._tensor_names if name not in self._parameter_names)

    @property
    def _tensor_names(self) -> tuple[str, ...]:
        return tuple(n for n, value in self.held.items() if self._objects.tensor(value) is not None)

    def _listed(self, line: str) -> tuple[str, ...]:
        return self.script_class.lists.get(line, ()) if self.script_class is not None else ()

    def _tensors(self, names: tuple[str, ...]) -> Iterator[tuple[str, Parameter | None]]:
        self._objects.storages.budget.step(len(names))
        for name in names:
            if name in self.held:
                yield name, self.lookup(name)
