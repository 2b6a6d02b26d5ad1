"""One format's share of a run: mutants of its seeds, and of mutants that reached new code."""

from __future__ import annotations

import random
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from judge import BrokenPromise, Judge, judge
from memory import forget_peak, peak
from mutations import mutant
from reached import Coverage
from seed import Seed

SECONDS = 2.0  # of the processor
MEBIBYTES = 200
LOOK_AGAIN = 0.2  # seconds; what took longer while it was traced is timed again without
TRACED = 0.4  # share of the inputs whose lines are recorded, which makes them far slower
WITH_RULES = 0.25  # share of the inputs that are judged by all rules too, where they are read
MOST_FAILURES = 50


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that broke a promise, and how."""

    seed: Seed
    why: str
    place: str  # equal for what is likely to be the same mistake


@dataclass(slots=True)
class Tally:
    """What came of the inputs so far."""

    inputs: int = 0
    read: int = 0
    slowest: float = 0.0
    most_memory: float = 0.0
    corpus: int = 0
    lines: int = 0
    failures: list[Failure] = field(default_factory=list)


@dataclass(slots=True)
class Campaign:
    """Mutants of the seeds of one format, one after the other; ``folder`` holds the current one."""

    seeds: Sequence[Seed]
    folder: Path
    chance: random.Random
    guided: bool = True
    floor: float = 0.0  # MiB that the process has for other reasons
    judge: Judge = field(default_factory=judge)
    coverage: Coverage = field(default_factory=Coverage)
    tally: Tally = field(default_factory=Tally)
    _there: dict[str, bytes] = field(default_factory=dict)  # in the folder

    def run(self, inputs: int) -> Iterator[Tally]:
        """Try so many mutants; gives the tally after each."""
        warnings.simplefilter("ignore")
        corpus = [*self.seeds]
        for seed in self.seeds:
            if not self._attempt(seed, with_rules=True) and not self.tally.failures:
                self._fail(seed, BrokenPromise(f"the seed {seed.name!r} is not read"))
        for _ in range(inputs):
            parent = self.chance.choice(self.seeds if self.chance.random() < 0.5 else corpus)
            made = mutant(parent, self.chance, self.chance.choice(corpus))
            before = len(self.coverage.lines)
            self.tally.inputs += 1
            self.tally.read += self._attempt(made, self.chance.random() < WITH_RULES)
            if len(self.coverage.lines) > before:
                corpus.append(made)
            self.tally.corpus, self.tally.lines = len(corpus), len(self.coverage.lines)
            yield self.tally

    def _attempt(self, seed: Seed, with_rules: bool) -> bool:
        path = self._written(seed)
        try:
            forget_peak()
            traced = self.guided and self.chance.random() < TRACED
            seconds, is_read = self._timed(path, with_rules, traced)
            if traced and seconds > LOOK_AGAIN:
                seconds, is_read = self._timed(path, with_rules, False)
            self._hold_limits(seconds, peak() - self.floor)
        except Exception as error:
            self._fail(seed, error)
            return False
        return is_read

    def _written(self, seed: Seed) -> Path:
        for name in self._there.keys() - seed.files.keys():
            (self.folder / name).unlink()
        changed = {n: data for n, data in seed.files.items() if self._there.get(n) is not data}
        self._there = dict(seed.files)
        return replace(seed, files=changed).write(self.folder)

    def _timed(self, path: Path, with_rules: bool, traced: bool) -> tuple[float, bool]:
        began = time.process_time()
        with self.coverage.recording() if traced else nullcontext():
            is_read = self.judge.is_read(path, with_rules)
        return time.process_time() - began, is_read

    def _hold_limits(self, seconds: float, mebibytes: float) -> None:
        self.tally.slowest = max(self.tally.slowest, seconds)
        self.tally.most_memory = max(self.tally.most_memory, mebibytes)
        if seconds > SECONDS:
            raise BrokenPromise(f"takes {seconds:.1f} s")
        if mebibytes > MEBIBYTES:
            raise BrokenPromise(f"takes {mebibytes:.0f} MiB")

    def _fail(self, seed: Seed, error: Exception) -> None:
        place = place_of(error)
        known = {failure.place for failure in self.tally.failures}
        if place not in known and len(known) < MOST_FAILURES:
            why = "".join(traceback.format_exception(error))
            self.tally.failures.append(Failure(self._smallest(seed, place), why, place))

    def _smallest(self, seed: Seed, place: str) -> Seed:
        """Less of the same: ranges are left out as long as the same mistake shows."""

        def still_fails(smaller: Seed) -> bool:
            try:
                self._timed(self._written(smaller), with_rules=True, traced=False)
            except Exception as error:
                return place_of(error) == place
            return False

        return minimised(seed, still_fails)


def place_of(error: Exception) -> str:
    """The kind of an error, and where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"{frame[0].filename}:{frame[0].lineno}" if frame else ""
    kind = type(error).__name__
    return f"{kind} {error}"[:40] if isinstance(error, BrokenPromise) else f"{kind} {where}"


def minimised(seed: Seed, still_fails: Callable[[Seed], bool], tries: int = 300) -> Seed:
    """The seed with as little in its files as shows the same."""
    for name in seed.files:
        length = len(seed.files[name]) // 2
        at = 0
        while length and tries:
            data = seed.files[name]
            smaller = replace(seed, files={**seed.files, name: data[:at] + data[at + length :]})
            tries -= 1
            if at < len(data) and still_fails(smaller):
                seed = smaller
                continue
            at = at + length if at < len(data) else 0
            length = length if at else length // 2
    return seed
