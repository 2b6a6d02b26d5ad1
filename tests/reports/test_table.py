"""Tables of layers and rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bncheck import catalogue
from bncheck.facts import Unknown
from bncheck.model import NormLayer
from bncheck.reports.table import layers, rules
from bncheck.tensor import constant


def rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if not line.startswith("---")]


def test_what_is_known_of_layers(make: Any) -> None:
    full = {
        "num_features": 4,
        "eps": 1e-5,
        "momentum": None,
        "training": True,
        "affine": True,
        "has_running_stats": True,
        "weight": constant(1, (4,), "float16"),
        "running_mean": constant(0, (4,), "float32"),
        "num_batches_tracked": constant(1000, (), "int64"),
    }
    several = (
        NormLayer("bn1", "batch", facts=full),
        NormLayer("", "batch", facts={**full, "training": False, "affine": False}),
        NormLayer("ln\x1b", None, facts={"eps": Unknown("eps", "elsewhere")}),
    )
    assert rows(layers(replace(make.model(()), layers=several))) == [
        "name kind features eps momentum mode affine stats dtype batches",
        "bn1 batch 4 1e-05 - train yes yes float16, float32 1000",
        "(root) batch 4 1e-05 - eval no yes float16, float32 1000",
        "ln\\x1b ? ? ? ? ? ? ? ? ?",
    ]


def test_a_column_that_nobody_knows_is_left_out(make: Any) -> None:
    assert rows(layers(make.model(["a", "b"])))[0] == "name kind"


def test_a_model_without_layers_has_no_table(make: Any) -> None:
    assert layers(make.model(())).strip() == ""


def test_every_rule_has_a_row_within_the_width() -> None:
    text = rules(catalogue.load().values(), 100)
    assert all(len(line) <= 100 for line in text.splitlines())
    ids = [row.split()[0] for row in rows(text)]
    assert [word for word in ids if word in catalogue.load()] == list(catalogue.load())
