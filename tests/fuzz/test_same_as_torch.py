"""What torch, Python and safetensors read too is the same: no other model is shown than runs.

Mutants of sound files are given to bncheck and to the library that would run them. Where both read
one, names, shapes, types and values must agree; each test holds how often both do, at least.
"""

from __future__ import annotations

import io
import pickle
import random
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import mutations
import pytest
from agreement import Held, Reader, described, mutants, require_agreement
from torch_seeds import saved

from bncheck.errors import UnreadableModel
from bncheck.readers import safetensors
from bncheck.readers.source import BytesSource
from bncheck.readers.torch import legacy, pickle_machine, zipped
from bncheck.readers.torch.pickle_values import Dict, Set, mapping
from bncheck.readers.torch.values import parameters
from bncheck.tensor import Tensor

torch = pytest.importorskip("torch")
library = pytest.importorskip("safetensors.torch")
pytestmark = pytest.mark.filterwarnings("ignore")

STATE = {
    "bn.weight": torch.arange(4.0),
    "bn.bias": torch.arange(8.0)[::2],
    "bn.running_mean": torch.full((4,), 0.25, dtype=torch.float64),
    "bn.running_var": torch.tensor([0.5, 1.0, 2.0, 3.0]).half(),
    "bn.num_batches_tracked": torch.tensor(7),
    "fc.weight": torch.arange(6.0).reshape(2, 3).t(),
    "flags": torch.tensor([True, False]),
    "brain": torch.tensor([1.5, -2.0]).bfloat16(),
}


def with_torch(data: bytes) -> Held | None:
    try:
        loaded = torch.load(io.BytesIO(data), weights_only=True)
    except Exception:  # torch raises errors of all kinds
        return None
    if not isinstance(loaded, dict):
        return None
    tensors = {k: v for k, v in loaded.items() if isinstance(v, torch.Tensor)}
    return {name: torch_tensor(tensor) for name, tensor in tensors.items()}


def torch_tensor(tensor: Any) -> tuple[str, tuple[int, ...], list[float] | None]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    try:
        return dtype, tuple(tensor.shape), tensor.double().flatten().tolist()
    except (RuntimeError, NotImplementedError):  # of a type that has no plain numbers
        return dtype, tuple(tensor.shape), None


def torch_reader(load: Callable[..., Any]) -> Reader:
    def read(data: bytes) -> Held | None:
        try:
            value, storages = load(BytesSource(data))
            named = mapping(value)
            held = {} if named is None else parameters(named, storages)
        except UnreadableModel:
            return None
        if named is None:
            return None
        tensors = {name: each.tensor for name, each in held.items() if each is not None}
        if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            return None
        return described(tensors)

    return read


def test_zip_files_of_torch() -> None:
    """Names, order and lengths of entries, their content, and what lies between them."""
    seeds = [saved(STATE), saved(STATE, pickle_protocol=3)]
    agreed = require_agreement(
        mutants(seeds, 2500, mutations.changed), torch_reader(zipped.load), with_torch
    )
    assert agreed > 450


def test_records_of_zip_files() -> None:
    """Fields of the headers and of the directory alone: all that tells where an entry lies."""
    seeds = [saved(STATE)]

    def change(data: bytes, chance: random.Random, donor: bytes) -> bytes:
        return mutations.change_zip_record(data, chance)

    agreed = require_agreement(mutants(seeds, 2000, change), torch_reader(zipped.load), with_torch)
    assert agreed > 250


def test_pickles_of_torch() -> None:
    with warnings.catch_warnings():
        seeds = [saved(STATE, _use_new_zipfile_serialization=False)]
    agreed = require_agreement(
        mutants(seeds, 2500, mutations.changed), torch_reader(legacy.load), with_torch
    )
    assert agreed > 150


# Pickles of plain data

DATA = {
    "a": [1, 2.5, None, True, "text", b"bytes", -(2**40), 2**70],
    "b": {"c": (1, (2, 3), [4]), "d": {"e": "f"}, "g": frozenset([1, 2])},
    "h": [[], {}, (), "", 0],
}


class Plain(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """Python's own unpickler, that makes no objects; the one in C would take a gigabyte."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(name)


def plain(value: Any) -> Any:
    """What the symbolic machine made, as Python's values. Raises TypeError as Python does."""
    match value:
        case Dict():
            return {plain(key): plain(held) for key, held in value.pairs}
        case Set():  # or a frozenset
            return unordered(map(plain, value.elements))
        case list():
            return [plain(each) for each in value]
        case tuple():
            return tuple(plain(each) for each in value)
    return value


def frozen(value: Any) -> Any:
    """The same as lists where it is a set or frozenset, which bncheck does not tell apart."""
    match value:
        case dict():
            return {key: frozen(held) for key, held in value.items()}
        case list() | tuple():
            return type(value)(frozen(each) for each in value)
        case set() | frozenset():
            return unordered(map(frozen, value))
    return value


def unordered(elements: Iterable[Any]) -> list[str]:
    """A set for comparisons: NaN has no place of its own in Python's."""
    return sorted(map(repr, frozenset(elements)))


def test_pickles_of_plain_data() -> None:
    agreed = 0
    seeds = [pickle.dumps(DATA, protocol) for protocol in (2, 3, 4, 5)]
    for data in mutants(seeds, 3000, mutations.changed):
        try:
            value = plain(pickle_machine.load(data).value)
            expected = frozen(Plain(io.BytesIO(data)).load())
        except Exception:  # Python's unpickler raises errors of all kinds
            continue
        assert repr(value) == repr(expected), data
        agreed += 1
    assert agreed > 300


# safetensors


def with_safetensors(data: bytes) -> Held | None:
    try:
        return {name: torch_tensor(tensor) for name, tensor in library.load(data).items()}
    except Exception:  # of Rust, and of Python where a type is unknown to it
        return None


def our_safetensors(data: bytes) -> Held | None:
    try:
        return described(safetensors.tensors(BytesSource(data)))
    except UnreadableModel:
        return None


def test_safetensors() -> None:
    state = {name: tensor.contiguous() for name, tensor in STATE.items()}
    seeds = [library.save(state), library.save(state, {"format": "pt"})]
    agreed = require_agreement(
        mutants(seeds, 3000, mutations.changed), our_safetensors, with_safetensors
    )
    assert agreed > 200
