"""A bounded share of what run.py does at length: every format, no mutant breaks a promise."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from campaign import Campaign, Failure, minimised
from memory import forget_peak, peak
from seed import Seed
from seeds import all_seeds

for _library in ("torch", "onnx", "onnxruntime", "safetensors"):
    pytest.importorskip(_library)

INPUTS = 300  # of each format
# What share of the mutants is read, at least: refusing everything would keep all other promises.
# Chunks in files, offsets and lengths that are checked against each other tolerate little.
SHARES = {
    "torch-zip": 0.3,
    "torch-legacy": 0.12,
    "torch-package": 0.25,
    "torch-distributed": 0.03,
    "torchscript": 0.4,
    "torch-export": 0.3,
    "safetensors": 0.06,
    "folder": 0.3,
    "onnx": 0.3,
    "ort": 0.06,
}


@pytest.fixture(scope="module")
def seeds() -> dict[str, list[Seed]]:
    found: dict[str, list[Seed]] = {}
    for seed in all_seeds():
        found.setdefault(seed.format, []).append(seed)
    return found


def test_every_format_has_seeds(seeds: dict[str, list[Seed]]) -> None:
    assert seeds.keys() == SHARES.keys()


def told(failures: list[Failure]) -> str:
    return "\n\n".join(f"{failure.seed}\n{failure.why}" for failure in failures)


@pytest.mark.parametrize("name", SHARES)
def test_mutants(name: str, seeds: dict[str, list[Seed]], tmp_path: Path) -> None:
    forget_peak()
    chance = random.Random(name)
    campaign = Campaign(seeds[name], tmp_path, chance, guided=False, floor=peak())
    for tally in campaign.run(INPUTS):
        assert not tally.failures, told(tally.failures)
    assert SHARES[name] < tally.read / tally.inputs < 1


def test_new_code_is_noticed(seeds: dict[str, list[Seed]], tmp_path: Path) -> None:
    campaign = Campaign(seeds["safetensors"], tmp_path, random.Random(0), floor=1e9)
    for tally in campaign.run(60):
        assert not tally.failures, told(tally.failures)
    assert len(campaign.seeds) < tally.corpus < tally.inputs


def test_a_failure_is_kept_and_made_small(tmp_path: Path) -> None:
    sound = Seed("any", "one", {"model": b"x" * 100 + b"bad" + b"y" * 100})
    small = minimised(sound, lambda seed: b"bad" in seed.files["model"])
    assert small.files["model"] == b"bad"


class Fragile:
    """Judges as a reader would that has a mistake."""

    def is_read(self, path: Path, with_rules: bool) -> bool:
        return bool(1 / path.read_bytes().count(b"}}"))


def test_a_mistake_of_a_reader_is_found(seeds: dict[str, list[Seed]], tmp_path: Path) -> None:
    campaign = Campaign(seeds["safetensors"], tmp_path, random.Random(0), guided=False, floor=1e9)
    campaign.judge = Fragile()
    *_, tally = campaign.run(200)
    assert [failure.place.split()[0] for failure in tally.failures] == ["ZeroDivisionError"]
    assert not tally.failures[0].seed.files["model"]
