"""The stored tensors of a program while they change, by the names of their placeholders."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any


class Stored:
    """``tensors`` and ``constants`` are those of the new program, by qualified name."""

    def __init__(self, exported: Any) -> None:
        self.tensors = dict(exported.state_dict)
        self.constants = dict(exported.constants)
        self._specs = {each.arg.name: each for each in exported.graph_signature.input_specs}

    def specs(self, placeholders: Iterable[Any]) -> list[Any]:
        """The entries of a signature for placeholders."""
        return [self._specs[node.name] for node in placeholders]

    def target(self, name: str) -> str:
        """The qualified name of what a placeholder stands for."""
        return str(self._specs[name].target)

    def held(self, name: str) -> Any:
        """The tensor that a placeholder stands for."""
        target = self.target(name)
        return self.tensors[target] if target in self.tensors else self.constants[target]

    def replace(self, name: str, shape: tuple[int, ...], data: bytes) -> None:
        """Let a placeholder stand for other numbers."""
        target = self.target(name)
        place = self.tensors if target in self.tensors else self.constants
        place[target] = self._like(name, shape, data)

    def add(self, beside: str, role: str, shape: tuple[int, ...], data: bytes) -> tuple[str, Any]:
        """Another tensor in the module of one that there is: its qualified name, and itself."""
        module, dot, _ = self.target(beside).rpartition(".")
        names = _numbered(f"{module}{dot}{role}")
        target = next(each for each in names if each not in self.tensors)
        held = self.tensors[target] = self._like(beside, shape, data)
        return target, held

    def introduce(self, name: str, target: str, beside: str) -> None:
        """Note a placeholder for a tensor that was added; it is a parameter."""
        like = self._specs[beside]
        kind, arg = type(like.kind).PARAMETER, replace(like.arg, name=name)
        self._specs[name] = replace(like, kind=kind, arg=arg, target=target, persistent=None)

    def _like(self, name: str, shape: tuple[int, ...], data: bytes) -> Any:
        """Elements as a tensor; a parameter where what they are like is one."""
        torch: Any = importlib.import_module("torch")
        old = self.held(name)
        made = torch.frombuffer(bytearray(data), dtype=old.dtype).reshape(shape).to(old.device)
        if not isinstance(old, torch.nn.Parameter):
            return made
        return torch.nn.Parameter(made, requires_grad=old.requires_grad)

    def forget(self, name: str) -> str:
        """Forget a placeholder, and what it stood for unless another does; gives its target."""
        target = str(self._specs.pop(name).target)
        if not self.placeholders(target):
            self.tensors.pop(target, None)
            self.constants.pop(target, None)
        return target

    def placeholders(self, target: str) -> list[str]:
        """The names of all placeholders for a tensor."""
        return [name for name, spec in self._specs.items() if spec.target == target]


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
