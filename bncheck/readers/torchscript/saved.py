"""Pickled values as what names of the code stand for."""

from __future__ import annotations

from collections.abc import Mapping

from bncheck.readers.torch.pickle_values import Dict, Instance, Value, mapping
from bncheck.readers.torch.values import Parameter
from bncheck.readers.torchscript.containers import LONGEST, Containers
from bncheck.readers.torchscript.library import ROOT
from bncheck.readers.torchscript.objects import Objects
from bncheck.readers.torchscript.tape import Tape
from bncheck.readers.torchscript.values import DEEPEST, UNKNOWN, Budget, Runtime, Stored, is_plain

# How lists, and values with their types, are pickled.
TAGGED = "torch.jit._pickle."


class Saved:
    """Reads the values of one pickle; ``stored`` become the tensors among them, by name."""

    def __init__(
        self,
        objects: Objects,
        tape: Tape,
        containers: Containers,
        stored: dict[str, Stored],
        budget: Budget,
    ) -> None:
        self._budget = budget
        self._objects = objects
        self._tape = tape
        self._containers = containers
        self._stored = stored

    def value(self, held: Value, name: str, depth: int = 0) -> Runtime:
        """A pickled value; a tensor in it gets the name, or one that begins so."""
        tensor = self._objects.tensor(held)
        if tensor is not None:
            return self._store(tensor, name)
        if isinstance(held, Instance):
            return self._of_instance(held, name, depth)
        if isinstance(held, list | tuple | Dict) and depth < DEEPEST:
            return self._of_container(held, name, depth)
        return held if is_plain(held) else UNKNOWN

    def _of_instance(self, held: Instance, name: str, depth: int) -> Runtime:
        path = held.class_path
        if path.startswith(TAGGED) and held.args and depth < DEEPEST:
            return self.value(held.args[0], name, depth + 1)
        if path == "torch.device" and held.args and isinstance(held.args[0], str):
            return held.args[0]
        if path.startswith(f"{ROOT}."):
            return self._objects.object(held)
        pairs = mapping(held)
        return UNKNOWN if pairs is None else self._of_pairs(pairs, name, depth)

    def _of_container(self, held: Value, name: str, depth: int) -> Runtime:
        if isinstance(held, Dict):
            pairs = mapping(held)
            return UNKNOWN if pairs is None else self._of_pairs(pairs, name, depth)
        if len(held) > LONGEST:
            return UNKNOWN
        self._budget.spend(len(held))
        items = [self.value(item, f"{name}.{i}", depth + 1) for i, item in enumerate(held)]
        return tuple(items) if isinstance(held, tuple) else self._containers.new_list(items)

    def _of_pairs(self, pairs: Mapping[str, Value], name: str, depth: int) -> Runtime:
        if len(pairs) > LONGEST:
            return UNKNOWN
        self._budget.spend(len(pairs))
        items: list[Runtime] = []
        for key, held in pairs.items():
            items += (key, self.value(held, f"{name}.{key}", depth + 1))
        return self._containers.new_dictionary(items)

    def _store(self, parameter: Parameter, name: str) -> Stored:
        stored = Stored(self._tape.unique(name), parameter.tensor)
        self._stored[stored.name] = stored
        return stored
