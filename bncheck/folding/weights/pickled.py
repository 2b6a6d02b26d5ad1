"""Modules that the user lets torch unpickle, which imports and runs what the file names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bncheck.errors import CannotFold
from bncheck.folding.torch.verify import line
from bncheck.folding.weights.architecture import needed_torch
from bncheck.model import Model

NOT_TRUSTED = (
    "{path}: is a pickled module: to load it, torch runs code that the file names; "
    "allow that with --trust"
)


class Pickled:
    """What torch.save wrote of a module, or of a dictionary with a module in it."""

    def __init__(self, path: Path, model: Model, trust: bool) -> None:
        if not trust:
            raise CannotFold(NOT_TRUSTED.format(path=path))
        torch = needed_torch()
        try:
            self._root = torch.load(path, map_location="cpu", weights_only=False)
        except Exception as error:  # whatever the code that it runs raises
            reason = f"{type(error).__name__}: {line(error)}"
            raise CannotFold(f"{path}: torch cannot load it: {reason}") from error
        self._is_zip = model.format != "torch-legacy"
        self._keys = _path(self._root, model.member or "")
        self.module = self._held(len(self._keys))
        if not isinstance(self.module, torch.nn.Module):
            raise CannotFold(f"{path}: torch loads a {type(self.module).__name__}, no module")

    def _held(self, depth: int) -> Any:
        held = self._root
        for key in self._keys[:depth]:
            held = held[key]
        return held

    def save(self, module: Any, path: Path) -> None:
        """Write all of it with another module in the place of this one."""
        root = module
        if self._keys:
            root = self._root
            self._held(len(self._keys) - 1)[self._keys[-1]] = module
        try:
            needed_torch().save(root, path, _use_new_zipfile_serialization=self._is_zip)
        except Exception as error:
            raise CannotFold(f"{path.name}: cannot be saved: {line(error)}") from error


def _path(root: Any, member: str) -> list[Any]:
    """The keys, joined by dots in the name of a member, that lead to it."""
    keys: list[Any] = []
    held = root
    while member:
        known = held.items() if isinstance(held, dict) else enumerate(held)
        fits = ((k, v) for k, v in known if member == str(k) or member.startswith(f"{k}."))
        key, held = next(fits, (None, None))
        if held is None:
            raise CannotFold(f"{member!r} is in no dictionary of the file")
        keys.append(key)
        member = member.removeprefix(str(key)).removeprefix(".")
    return keys
