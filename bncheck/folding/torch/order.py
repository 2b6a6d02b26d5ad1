"""Runs models of different formats alike: tensors in, tensors out, by their positions."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bncheck.errors import CannotFold
from bncheck.folding import npz
from bncheck.folding.onnx import runs
from bncheck.folding.onnx.engines import Session, engine
from bncheck.folding.onnx.file import open_file
from bncheck.folding.torch.feeds import Feed
from bncheck.folding.torch.runs import Observed, Runner
from bncheck.folding.torch.trusted import Loaded
from bncheck.folding.torch.values import array, tensors
from bncheck.readers.source import FileSource


def by_position(loaded: Loaded) -> Loaded:
    """The same, with arguments and outputs without names."""
    return Loaded(_Ordered(loaded.runner), map(_in_order, loaded.feeds))


def shared(before: Loaded, after: Loaded, is_given: bool) -> Iterator[Feed]:
    """Feeds that both models take: the first one's, or where shapes are in the way the other's.

    What a user has given is the only choice.
    """
    feeds, others = iter(before.feeds), iter(after.feeds)
    first = next(feeds)
    if is_given or _runs(after.runner, first):
        yield first
        yield from (feed for feed in feeds if _runs(after.runner, feed))
    elif _runs(before.runner, other := next(others)):
        yield other
        yield from (feed for feed in others if _runs(before.runner, feed))
    else:
        yield first  # and what is wrong with it is said


def _runs(runner: Runner, feed: Feed) -> bool:
    try:
        runner.run(feed, ())
    except Exception:  # another batch size, say
        return False
    return True


def _in_order(feed: Feed) -> Feed:
    return Feed(tuple(tensor for _, tensor in tensors([feed.args, dict(feed.kwargs)])))


@dataclass(frozen=True, slots=True)
class _Ordered:
    """A runner whose outputs are numbered."""

    runner: Runner

    def run(self, feed: Feed, sites: Sequence[str]) -> Observed:
        """See Runner."""
        return _numbered(self.runner.run(feed, sites))

    def run_nudged(self, feed: Feed, sites: Sequence[str], seed: int) -> Observed:
        """See Runner."""
        return _numbered(self.runner.run_nudged(feed, sites, seed))


def _numbered(observed: Observed) -> Observed:
    values = enumerate(observed.outputs.values())
    return replace(observed, outputs={str(number): value for number, value in values})


@dataclass(frozen=True, slots=True)
class OnnxRunner:
    """An ONNX model that is given tensors by position."""

    session: Session

    def run(self, feed: Feed, sites: Sequence[str]) -> Observed:
        """See Runner."""
        ports = self.session.inputs
        if len(feed.args) != len(ports):
            raise CannotFold(f"it takes {len(ports)} inputs, not {len(feed.args)}")
        arrays = {p.name: array(t)[0] for p, t in zip(ports, feed.args, strict=True)}
        made = self.session.run([each.name for each in self.session.outputs], arrays)
        return Observed({name: (value, str(value.dtype)) for name, value in made.items()})

    def run_nudged(self, feed: Feed, sites: Sequence[str], seed: int) -> Observed:
        """See Runner; its parameters stay as they are."""
        return self.run(feed, sites)


def onnx(path: Path, given: Path | None) -> Loaded:
    """An ONNX file. Raises CannotFold where nothing is installed that runs it."""
    file = open_file(FileSource(path))
    session = engine(file).session(file, path)
    return Loaded(OnnxRunner(session), _feeds(session, given))


def _feeds(session: Session, given: Path | None) -> Iterator[Feed]:
    torch: Any = importlib.import_module("torch")
    names = [each.name for each in session.inputs]
    if given is None:
        feeds = runs.feeds(session)
    else:
        held = npz.arrays(given)
        npz.require_names(given, held, names)
        feeds = iter([held])
    for feed in feeds:
        yield Feed(tuple(torch.from_numpy(feed[name]) for name in names))
