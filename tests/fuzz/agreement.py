"""Whether bncheck and another program that reads a file read the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

import mutations

from bncheck.errors import UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.tensor import Tensor

Held = dict[str, tuple[str, tuple[int, ...], list[float] | None]]  # None: values are not read
Reader = Callable[[bytes], Held | None]
SEED = 0  # another one gives other mutants


def mutants(seeds: list[bytes], count: int, change: mutations.Change) -> Iterator[bytes]:
    """Files with one to three changes; the same ones in every run."""
    chance = random.Random(SEED)
    for _ in range(count):
        data = chance.choice(seeds)
        for _ in range(chance.choice((1, 1, 2, 3))):
            data = change(data, chance, chance.choice(seeds))
        yield data


def require_agreement(files: Iterator[bytes], ours: Reader, theirs: Reader) -> int:
    """How many files both read; fails where they read something else."""
    agreed = 0
    for data in files:
        read = ours(data)
        expected = None if read is None else theirs(data)
        if read is None or expected is None:
            continue
        assert read.keys() == expected.keys(), data
        for name, (dtype, shape, values) in read.items():
            assert (dtype, shape) == expected[name][:2], (name, data)
            if values is not None:
                assert repr(values) == repr(expected[name][2]), (name, data)
        agreed += 1
    return agreed


def described(tensors: Mapping[str, Tensor]) -> Held | None:
    """None where the values are refused, which is as good as refusing the file."""
    try:
        return {name: (t.dtype, t.shape, values_of(t)) for name, t in tensors.items()}
    except UnreadableModel:
        return None


def values_of(tensor: Tensor) -> list[float] | None:
    try:
        return [float(value) for value in tensor.values]
    except UnknownFact:
        return None
