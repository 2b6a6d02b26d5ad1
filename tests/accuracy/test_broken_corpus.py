"""Defects in three networks of benchmarks/accuracy: what a rule found there, it still finds.

What is expected stands in benchmarks/accuracy/assessed.json, which
``python -m benchmarks.accuracy --part broken --write`` makes.
"""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from typing import Any

import pytest

for package in ("onnx", "onnxscript", "safetensors"):
    pytest.importorskip(package)
if not hasattr(signal, "SIGALRM"):
    pytest.skip("an export is stopped by a signal", allow_module_level=True)

torch = pytest.importorskip("torch")

from benchmarks.accuracy import recall  # noqa: E402
from benchmarks.accuracy.broken_tables import EXPECTED  # noqa: E402
from benchmarks.accuracy.defects import DEFECTS, RULES  # noqa: E402
from bncheck import catalogue  # noqa: E402

NETWORKS = ("squeezed", "repvgg", "autoencoder")
SLOW = {"pt2", "ONNX dynamo plain"}  # for every sixth rule: what fails there, fails for all
ASSESSED = json.loads(EXPECTED.read_text("utf-8"))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """torch.export logs every step that it takes."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def outcomes(rule: str, network: str) -> list[Any]:
    """What comes of the rule's defects, each format once."""
    left = set(recall.FORMATS_OF_BROKEN)
    found: list[Any] = []
    for defect in (each for each in DEFECTS if each.rule == rule):
        formats = sorted(left - (SLOW if RULES.index(rule) % 6 else set()))
        made = recall.outcomes(network, [defect], formats, ["many"])
        found += [each for each in made if not each.failure]
        left -= {each.format for each in found}
    return found


@pytest.mark.parametrize("rule", RULES)
def test_found(rule: str) -> None:
    """In the first of the networks that the rule's defects can be planted in."""
    seen = next(filter(None, (outcomes(rule, network) for network in NETWORKS)))
    for each in seen:
        expected = ASSESSED[rule][each.format]
        allowed = {"found", "partly", "not assessed"} if expected == "partly" else {expected}
        assert each.verdict in allowed, f"{each.defect} in {each.format}: {each.reason}"
        assert not each.misplaced


def test_every_rule_has_a_defect() -> None:
    assert set(RULES) == set(catalogue.load()) == set(ASSESSED)
