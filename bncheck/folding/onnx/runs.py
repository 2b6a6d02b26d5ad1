"""Inputs that exercise an ONNX model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bncheck.errors import CannotFold
from bncheck.folding.onnx.engines import Arrays, Port, Session, line

SIZES = (224, 64, 32, 16, 8)  # tried for axes whose size is open
TYPES = frozenset({"float32", "float16", "float64", "bool"})
INTEGERS = frozenset({"int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"})


@dataclass(frozen=True, slots=True)
class Run:
    """One way to exercise a model: batch size, seed, and what its random numbers are times."""

    batch: int
    seed: int
    factor: float


RUNS = (Run(1, 0, 1.0), Run(2, 1, 10.0), Run(1, 2, 0.0))


def feeds(session: Session) -> Iterator[Arrays]:
    """Inputs of the right shapes and types for each of RUNS.

    Raises CannotFold where sizes are open and the model runs with none that were tried.
    """
    size = _size_that_works(session) if _is_open(session) else 0
    for run in RUNS:
        yield _feed(session, run, size)


def _size_that_works(session: Session) -> int:
    problem = ""
    names = [each.name for each in session.outputs]
    for size in SIZES:
        try:
            session.run(names[:1], _feed(session, RUNS[0], size))
        except CannotFold as error:  # a size that does not fit
            problem = problem or str(error)
        else:
            return size
    raise CannotFold(f"no random inputs fit: {problem}; give --inputs FILE.npz")


def _is_open(session: Session) -> bool:
    return any(not _is_known(size) for each in session.inputs for size in each.shape[1:])


def _is_known(size: object) -> bool:
    return isinstance(size, int) and size > 0


def _feed(session: Session, run: Run, size: int) -> Arrays:
    rng = np.random.default_rng(run.seed)
    open_sizes: dict[str, int] = {}
    return {each.name: _values(each, run, size, open_sizes, rng) for each in session.inputs}


def _values(
    port: Port, run: Run, size: int, open_sizes: dict[str, int], rng: np.random.Generator
) -> Any:
    shape = [
        each
        if isinstance(each, int) and each > 0
        else open_sizes.setdefault(f"{each or (port.name, axis)}", size if axis else run.batch)
        for axis, each in enumerate(port.shape)
    ]
    if port.dtype in INTEGERS or port.dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape)).astype(port.dtype)
    if port.dtype not in TYPES:
        raise CannotFold(f"input {port.name!r} is a {port.dtype}; give --inputs FILE.npz")
    return np.asarray(run.factor * rng.standard_normal(shape)).astype(port.dtype)


def given(path: Path) -> list[Arrays]:
    """The arrays of an .npz by the names of inputs, as one feed."""
    try:
        with np.load(path, allow_pickle=False) as held:
            return [{name: held[name] for name in held.files}]
    except (OSError, ValueError) as error:
        raise CannotFold(f"{path}: no .npz of arrays by input name: {line(error)}") from error
