"""What one broken file came to, and where that is kept between runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.processes import environment, module

Verdict = Literal["found", "partly", "not assessed", "missed", "no file"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One broken file, and what was said of the layers that were broken.

    A None among the names is the model as a whole; "a or b" is one layer of two names.
    ``silenced``: a root cause was named there instead. ``misplaced``: findings of the rule
    elsewhere that the healthy network has not. ``failure``: why there is no file.
    """

    rule: str
    defect: str
    network: str
    extent: str
    format: str
    failure: str = ""
    wanted: list[str | None] = field(default_factory=list)
    found: list[str | None] = field(default_factory=list)
    open: list[str | None] = field(default_factory=list)
    silenced: list[str | None] = field(default_factory=list)
    missed: list[str | None] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """Of the whole file; "partly" where some layers are found and others not assessed."""
        if self.failure:
            return "no file"
        if self.missed:
            return "missed"
        if self.found or self.silenced:
            return "partly" if self.open else "found"
        return "not assessed"


def summed(verdicts: Collection[Verdict]) -> Verdict:
    """The verdict over many files of one format."""
    made = {each for each in verdicts if each != "no file"}
    if "missed" in made:
        return "missed"
    return next(iter(made)) if len(made) == 1 else "partly" if made else "no file"


def of(cache: Path, network: str, rules: Sequence[str], limit: int | None) -> Iterator[Outcome]:
    """The outcomes of a network: from the cache, or made by recall.py in a process of its own.

    A process that takes more than ``limit`` seconds, or breaks, leaves the rules that it finished;
    None: only what is in the cache.
    """
    folder = cache / "broken" / network
    missing = [rule for rule in rules if not _kept(folder, rule).exists()]
    if missing and limit is not None:
        folder.mkdir(parents=True, exist_ok=True)
        _make(folder, network, missing, limit)
    for path in (_kept(folder, rule) for rule in rules):
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            yield Outcome(**json.loads(line))


def _kept(folder: Path, rule: str) -> Path:
    return folder / f"{rule}.jsonl"


def _make(folder: Path, network: str, rules: Sequence[str], limit: int) -> None:
    words = module("accuracy.recall", network, "--into", folder, "--rules", *rules)
    with (folder / "errors.txt").open("wb") as errors, suppress(subprocess.TimeoutExpired):
        subprocess.run(
            words, check=False, stdout=errors, stderr=errors, env=environment(), timeout=limit
        )
