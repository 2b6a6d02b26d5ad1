"""Mutants of a real program: they are read, or refused with a reason; nothing else happens."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from bncheck.errors import UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.readers.exported import model
from bncheck.readers.exported.document import parse
from bncheck.readers.exported.schema import read_program
from bncheck.readers.torch.values import Parameter
from bncheck.tensor import constant

torch = pytest.importorskip("torch")
nn = torch.nn

MUTANTS = 1500
ODD = (None, True, -1, 2**63, 1e308, "", "x", "as_int", [], {}, [[]], {"as_int": 1}, {"a": None})


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A program with every way that the schema has to write an argument down, nearly."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    batch = torch.export.Dim("batch", min=2)
    shapes = {"input": {0: batch}}
    program = torch.export.export(net.train(), (torch.randn(2, 3, 4, 4),), dynamic_shapes=shapes)
    program = program.run_decompositions()
    path = tmp_path_factory.mktemp("mutants") / "net.pt2"
    torch.export.save(program, path)
    reader = torch._C.PyTorchFileReader(str(path))
    return json.loads(reader.get_record("models/model.json"))


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every container, with every key or index in it."""
    found, waiting = [], [document]
    while waiting:
        held = waiting.pop()
        inside = held.items() if isinstance(held, dict) else enumerate(held)
        for key, value in inside:
            found.append((held, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    return found


def mutated(document: Any, random: random.Random) -> Any:
    mutant = copy.deepcopy(document)
    for _ in range(random.choice((1, 1, 2, 8))):
        container, key = random.choice(places(mutant))
        match random.randrange(4):
            case 0:
                container[key] = copy.deepcopy(random.choice(ODD))
            case 1:
                del container[key]
            case 2:
                other, name = random.choice(places(mutant))
                container[key] = copy.deepcopy(other[name])
            case _ if isinstance(container, list):
                random.shuffle(container)
    return mutant


def test_mutants_are_read_or_refused(document: Any, tmp_path: Path) -> None:
    tensors = {name: Parameter(constant(1.0, (4,)), True) for name in ("1.weight", "1.bias")}
    seeded = random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(MUTANTS):
        text = json.dumps(mutated(document, seeded)).encode()
        try:
            found = model(read_program(parse(text, "program"), tensors))
            for layer in found.layers:
                repr({**layer.facts})
            outcomes["read"] += 1
        except (UnreadableModel, UnknownFact):
            outcomes["refused"] += 1
    assert outcomes["read"] > MUTANTS / 10, outcomes
    assert outcomes["refused"] > MUTANTS / 10, outcomes
