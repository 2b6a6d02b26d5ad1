"""BN3xx on facts made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.checks.batch import tiny_batch
from bncheck.facts import UnknownFact
from bncheck.model import BatchSize

SOURCE = "hyper_parameters.batch_size"
FROZEN = {"training": False, "requires_grad": False}


@pytest.mark.parametrize(
    ("samples", "level"),
    [(1, "warning"), (4, "warning"), (5, "info"), (15, "info"), (16, None), (256, None)],
)
def test_tiny_batch(make: Any, samples: int, level: str | None) -> None:
    model = make.model(make.layer(), batch_size=BatchSize(samples, SOURCE))
    assert [found for found, _ in make.seen(tiny_batch(model))] == ([level] if level else [])


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            BatchSize(2, SOURCE),
            "Statistics come from batches of 2 (hyper_parameters.batch_size): counting each once, "
            "the variance has a standard error of 141%.",
        ),
        (
            BatchSize(2, "input x of the graph", positions=49),
            "Statistics come from batches of 2 (input x of the graph): counting each once, the "
            "variance has a standard error of 141%; over 98 independent positions the error is "
            "14%.",
        ),
        (
            BatchSize(1, SOURCE, positions=1),
            "Statistics come from batches of 1 (hyper_parameters.batch_size): counting each once, "
            "the variance is undefined.",
        ),
        (
            BatchSize(1, SOURCE, positions=51),
            "Statistics come from batches of 1 (hyper_parameters.batch_size): counting each once, "
            "the variance is undefined; over 51 independent positions the error is 20%.",
        ),
    ],
)
def test_tiny_batch_names_its_numbers(make: Any, size: BatchSize, message: str) -> None:
    assert make.seen(tiny_batch(make.model(make.layer(), batch_size=size))) == [
        ("warning", message)
    ]


def test_tiny_batch_takes_its_limits(make: Any) -> None:
    model = make.model(make.layer(), batch_size=BatchSize(8, SOURCE))
    assert make.seen(tiny_batch(model, info=8)) == []
    assert [level for level, _ in make.seen(tiny_batch(model, warn=8))] == ["warning"]


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [{"kind": "group"}, {"kind": "layer"}],
        [{"kind": "frozen-batch"}],
        [FROZEN, FROZEN, {"kind": "frozen-batch"}],
        [{"has_running_stats": False}],
    ],
)
def test_a_model_that_takes_no_batch_statistics_needs_no_batch_size(
    make: Any, layers: list[dict[str, object]]
) -> None:
    assert make.seen(tiny_batch(make.model(*(make.layer(**facts) for facts in layers)))) == []


@pytest.mark.parametrize(
    "facts",
    [{"training": False}, {"requires_grad": False}, {"training": True, "requires_grad": False}],
)
def test_a_layer_may_be_frozen_in_part(make: Any, facts: dict[str, object]) -> None:
    layers = [make.layer(**FROZEN), make.layer(**facts)]
    model = make.model(*layers, batch_size=BatchSize(2, SOURCE))
    assert len(make.seen(tiny_batch(model))) == 1


def test_an_unknown_batch_size_is_not_assessed(make: Any) -> None:
    with pytest.raises(UnknownFact):
        list(tiny_batch(make.model(make.layer())))


def test_sync_batch_norm_sees_an_unknown_number_of_devices(make: Any) -> None:
    sync = make.layer("sync-batch")
    with pytest.raises(UnknownFact, match="all devices"):
        list(tiny_batch(make.model(sync, batch_size=BatchSize(2, SOURCE))))
    assert make.seen(tiny_batch(make.model(sync, batch_size=BatchSize(32, SOURCE)))) == []
    mixed = make.model(sync, make.layer(), batch_size=BatchSize(2, SOURCE))
    assert len(make.seen(tiny_batch(mixed))) == 1
