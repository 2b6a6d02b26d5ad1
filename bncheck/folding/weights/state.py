"""Tensors of a file in a module, and those of the folded module back in the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from math import prod
from typing import Any

import numpy as np

from bncheck.errors import CannotFold
from bncheck.facts import UnknownFact
from bncheck.folding.archives.tensors import Content
from bncheck.folding.weights.architecture import needed_torch
from bncheck.folding.weights.stores import WeightsFile
from bncheck.readers.limits import all_values
from bncheck.tensor import DTYPES, Tensor

COUNTER = "num_batches_tracked"  # which old files lack
MOST_NAMES = 3


def fill(module: Any, tensors: Mapping[str, Tensor]) -> str:
    """Give a module the tensors of a file, in their own dtypes; what their names begin with.

    Raises CannotFold where names or shapes do not fit.
    """
    expected = module.state_dict()
    prefix = _prefix(tensors, expected)
    given = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    lacking = [n for n in expected if n not in given and not n.endswith(COUNTER)]
    _require_same_names(lacking, [name for name in given if name not in expected])
    for name, tensor in given.items():
        if tuple(expected[name].shape) != tensor.shape:
            raise CannotFold(
                f"the weights do not fit the module: {name!r} is {[*tensor.shape]} in the file "
                f"and {[*expected[name].shape]} in the module"
            )
    loaded = {name: _as_torch(name, tensor) for name, tensor in given.items()}
    module.load_state_dict(loaded, strict=False, assign=True)
    return prefix


def _prefix(tensors: Iterable[str], expected: Iterable[str]) -> str:
    """What wrappers put before every name, such as ``module.``; "" where nothing fits better."""
    names = {*tensors}
    wanted = [name for name in expected if not name.endswith(COUNTER)]
    if not wanted or names.issuperset(wanted):
        return ""
    longest = max(wanted, key=len)
    found = (name.removesuffix(longest) for name in names if name.endswith(f".{longest}"))
    return next((p for p in sorted(found) if names.issuperset(p + n for n in wanted)), "")


def _require_same_names(lacking: list[str], unknown: list[str]) -> None:
    parts = [
        f"{what} {_some(names)}"
        for what, names in (("it has", lacking), ("the file has", unknown))
        if names
    ]
    if parts:
        raise CannotFold(f"the weights do not fit the module: only {', only '.join(parts)}")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    more = len(names) - MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _as_torch(name: str, tensor: Tensor) -> Any:
    torch = needed_torch()
    try:
        with all_values():
            values = tensor.fresh()
    except UnknownFact as unknown:
        raise CannotFold(f"{name} cannot be loaded: {unknown}") from unknown
    wide = np.array(values).reshape(tensor.shape)
    return torch.from_numpy(wide).to(getattr(torch, tensor.dtype))


def give_back(file: WeightsFile, prefix: str, before: Any, after: Any) -> None:
    """Let a file hold the state of a folded module in place of that of the original."""
    torch = needed_torch()
    old, new = before.state_dict(), after.state_dict()
    for name in old.keys() - new.keys():
        file.drop(prefix + name)
    for name, tensor in new.items():
        same = name in old and old[name].shape == tensor.shape and torch.equal(old[name], tensor)
        if not same:
            file.put(prefix + name, _content(prefix + name, tensor))


def _content(name: str, tensor: Any) -> Content:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise CannotFold(f"{name} became {dtype}, which is not written")
    shape = tuple(tensor.shape)
    strides = tuple(prod(shape[at + 1 :]) for at in range(len(shape)))
    size = tensor.numel() * tensor.element_size()
    return Content(shape, strides, dtype, size, partial(_bytes, tensor))


def _bytes(tensor: Any) -> bytes:
    """The elements in row-major order; every machine that torch runs on is little-endian."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    made: bytes = flat.view(needed_torch().uint8).numpy().tobytes()
    return made
