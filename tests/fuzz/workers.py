"""Runs a campaign in a process of its own, that may die, hang or want too much memory."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import memory
from campaign import Campaign, Failure, Tally
from seed import Seed

NEWS_EVERY = 1.0  # seconds
PATIENCE = 60  # seconds without news after which a process hangs
ADDRESS_SPACE = 2048  # MiB; of it, only what is used counts as memory


@dataclass(frozen=True, slots=True)
class Share:
    """What one process has to do."""

    seeds: Sequence[Seed]
    inputs: int
    random_seed: str
    folder: Path


def run_apart(share: Share) -> Tally:
    """The tally of a process that works by itself, also where it dies or hangs."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    worker = context.Process(target=_work, args=(share, there), daemon=True)
    worker.start()
    there.close()
    tally = Tally()
    try:
        while here.poll(PATIENCE):
            tally = here.recv()
        _died(share, tally, f"hangs for {PATIENCE} s")
    except EOFError:
        worker.join()
        if worker.exitcode:
            _died(share, tally, f"ends the process ({worker.exitcode})")
    worker.kill()
    return tally


def _died(share: Share, tally: Tally, why: str) -> None:
    paths = [path for path in share.folder.rglob("*") if path.is_file()]
    files = {path.relative_to(share.folder).as_posix(): path.read_bytes() for path in paths}
    seed = Seed(share.seeds[0].format, "the last", files, share.seeds[0].main)
    tally.failures.append(Failure(seed, why, why))


def _work(share: Share, parent: Connection) -> None:
    memory.limit(ADDRESS_SPACE)
    campaign = Campaign(share.seeds, share.folder, random.Random(share.random_seed))
    told = time.monotonic()
    for tally in campaign.run(share.inputs):
        if time.monotonic() - told > NEWS_EVERY:
            parent.send(tally)
            told = time.monotonic()
    parent.send(campaign.tally)
