"""The parts of the benchmark that are about broken networks; each is kept between runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.accuracy import outcomes
from benchmarks.accuracy.outcomes import Outcome
from benchmarks.processes import environment, module

PARTS = ("broken", "training", "peers")
PATIENCE = 3600  # seconds for all defects of one network


def render(
    parts: Collection[str], cache: Path, jobs: int, only_kept: bool, expect: bool
) -> dict[str, str]:
    """The tables of the parts asked for, under the names of their places in README.md.

    ``expect``: from now on CI expects what was found.
    """
    from benchmarks.accuracy import broken_tables

    made: dict[str, str] = {}
    if "broken" in parts:
        found = planted(cache, jobs, only_kept)
        made |= broken_tables.recall(found)
        if expect:
            broken_tables.write_expected(broken_tables.expected(found))
    if "training" in parts:
        made["went wrong"] = broken_tables.training(trained(cache, jobs, only_kept))
    if "peers" in parts:
        made["peers"] = broken_tables.peers(_lines(cache / "peers.jsonl", only_kept, "peers"))
    return made


def planted(cache: Path, jobs: int, only_kept: bool) -> list[Outcome]:
    """Every defect in every network that it is for."""
    from benchmarks.accuracy.defects import rules_for
    from benchmarks.accuracy.patients import NETWORKS

    def of(name: str) -> list[Outcome]:
        limit = None if only_kept else PATIENCE
        found = list(outcomes.of(cache, name, rules_for(name), limit))
        missed = sum(each.verdict == "missed" for each in found)
        print(f"broken {name}: {len(found)} files, {missed} missed", file=sys.stderr, flush=True)
        return found

    with ThreadPoolExecutor(jobs) as pool:
        return [each for found in pool.map(of, NETWORKS) for each in found]


def trained(cache: Path, jobs: int, only_kept: bool) -> list[dict[str, object]]:
    """Every training that went wrong."""
    from benchmarks.accuracy.broken_training import CASES

    def of(name: str) -> Sequence[dict[str, object]]:
        path = cache / "training" / f"{name}.jsonl"
        return _lines(path, only_kept, "broken_training", name)

    with ThreadPoolExecutor(jobs) as pool:
        return [each for found in pool.map(of, CASES) for each in found]


def _lines(path: Path, only_kept: bool, *words: str) -> list[dict[str, object]]:
    """What a module prints as JSON lines: kept, or made now."""
    if not path.exists() and not only_kept:
        name, *rest = words
        path.parent.mkdir(parents=True, exist_ok=True)
        print(*words, file=sys.stderr, flush=True)
        command = module(f"accuracy.{name}", *rest)
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment()
        )
        if done.returncode:
            print(done.stderr.strip().rpartition("\n")[2], file=sys.stderr, flush=True)
            return []
        path.write_text(done.stdout, "utf-8")
    return list(_read(path)) if path.exists() else []


def _read(path: Path) -> Iterator[dict[str, object]]:
    for line in path.read_text("utf-8").splitlines():
        yield json.loads(line)
