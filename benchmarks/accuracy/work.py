"""Makes all files of one network of a part, and checks each."""

from __future__ import annotations

import copy
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bncheck import BncheckError

from .corpus import Network, network
from .formats import FORMATS, Format, TooSlow, write
from .judge import Verdict, judge
from .names import NAMES
from .rows import Row, line
from .traps import TRAPS

TRAPS_EACH = 2
Made = tuple[str, Network, Mapping[str, Format]]  # under the name of its trap


def into(path: Path, part: str, name: str) -> None:
    """Write a row for each file of a network that belongs to a part; print nothing."""
    silent = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # exporters print beside Python's own streams
        os.dup2(silent, descriptor)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    with path.open("w", encoding="utf-8") as lines:
        for row in _rows_or_failure(part, name):
            lines.write(line(row))
            lines.flush()


def _rows_or_failure(part: str, name: str) -> Iterator[Row]:
    try:
        yield from rows(part, name)
    except Exception as error:
        yield Row(part, name, "", "process", failure=f"{type(error).__name__}: {error}"[:300])


def rows(part: str, name: str) -> Iterator[Row]:
    """A row for each file of a network that belongs to a part."""
    for trap, made, formats in PARTS[part](name):
        yield from of_network(part, name, trap, made, formats)


def healthy(name: str) -> Iterator[Made]:
    """A network of the corpus in all formats."""
    yield "", network(name), FORMATS


def trapped(name: str) -> Iterator[Made]:
    """The same with traps planted, one at a time: some that suit it, in turn."""
    made = network(name)
    first = NAMES.index(name) * TRAPS_EACH
    order = [*TRAPS][first % len(TRAPS) :] + [*TRAPS][: first % len(TRAPS)]
    left = TRAPS_EACH
    while order and left:
        trap = order.pop(0)
        each = made._replace(module=copy.deepcopy(made.module))
        with torch.no_grad():
            suits = TRAPS[trap].plant(each)
        if suits:
            left -= 1
            yield trap, each, TRAPS[trap].files


def really_trained(name: str) -> Iterator[Made]:
    """A small network after training."""
    from .digits import files

    yield from files(name)


PARTS: dict[str, Callable[[str], Iterator[Made]]] = {
    "healthy": healthy,
    "traps": trapped,
    "trained": really_trained,
}


def of_network(
    part: str, name: str, trap: str, network: Network, formats: Mapping[str, Format]
) -> Iterator[Row]:
    """A row for each format."""
    inputs = as_wanted(network.module, network.inputs)
    for kind, format in formats.items():
        with tempfile.TemporaryDirectory() as folder:
            verdict, failure, unreadable = Verdict(), "", ""
            try:
                verdict = judge(write(format, network.module, inputs, Path(folder)))
            except BncheckError as error:
                unreadable = str(error)
            except (Exception, TooSlow) as error:
                failure = f"{type(error).__name__}: {error}"[:300]
        said = asdict(verdict)
        yield Row(part, name, trap, kind, failure, unreadable, **said, accuracy=network.accuracy)


def as_wanted(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """Inputs in the precision of the network."""
    dtypes = {each.dtype for each in module.parameters() if each.is_floating_point()}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    return tuple(each.to(dtype) if each.is_floating_point() else each for each in inputs)
