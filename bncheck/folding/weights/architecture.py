"""Builds the module that a user names: ``package.module:factory``, which is imported and called."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bncheck.configuration.settings import suggestion
from bncheck.errors import CannotFold
from bncheck.folding.torch.verify import line

FORM = "write package.module:factory, where factory() gives an nn.Module"
NEEDED = "to fold weights or a pickled module, torch is needed: pip install 'bncheck[torch]'"


def needed_torch() -> Any:
    """PyTorch; raises CannotFold where it is not installed."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise CannotFold(NEEDED) from error


def built(arch: str) -> Any:
    """The module that a factory gives, in eval mode. Raises CannotFold where it gives none."""
    torch = needed_torch()
    try:
        with _working_folder_on_path():
            module = _made(arch)
    except SystemExit as error:
        raise CannotFold(f"{arch} ends the process when it is run") from error
    if not isinstance(module, torch.nn.Module):
        raise CannotFold(f"{arch} gives a {type(module).__name__}, no nn.Module")
    return module.eval()


def _made(arch: str) -> Any:
    factory = _factory(arch)
    try:
        return factory()
    except Exception as error:  # whatever the user's code raises
        raise CannotFold(f"{arch} fails: {type(error).__name__}: {line(error)}") from error


def _factory(arch: str) -> Callable[[], Any]:
    name, _, path = arch.partition(":")
    if not name or not path:
        raise CannotFold(f"{arch!r} is no architecture: {FORM}")
    try:
        found: Any = importlib.import_module(name)
    except Exception as error:
        raise CannotFold(f"{name} cannot be imported: {line(error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise CannotFold(f"{name} has no {path!r}{suggestion(part, vars(found))}")
        found = getattr(found, part)
    _require_no_arguments(arch, found)
    return found  # type: ignore[no-any-return]


def _require_no_arguments(arch: str, factory: Any) -> None:
    if not callable(factory):
        raise CannotFold(f"{arch} is a {type(factory).__name__}, and cannot be called: {FORM}")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise CannotFold(
            f"{arch} needs arguments ({error}): name a function that does not"
        ) from None
    except ValueError:  # it does not tell
        return


@contextmanager
def _working_folder_on_path() -> Iterator[None]:
    """So that a script beside is found, as ``python -m`` does it."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
