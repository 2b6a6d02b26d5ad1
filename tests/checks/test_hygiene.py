"""BN8xx on facts made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.checks.hygiene import (
    batch_count_missing,
    instance_norm_statistics,
    legacy_names,
)
from bncheck.facts import UnknownFact


@pytest.mark.parametrize(
    ("mean", "counter", "found"),
    [([0.5], None, True), ([0.5], 0, False), ([0.5], 900, False), (None, None, False)],
)
def test_batch_count_missing(make: Any, mean: Any, counter: int | None, found: bool) -> None:
    layer = make.layer(running_mean=mean, num_batches_tracked=counter)
    assert bool(make.seen(batch_count_missing(layer))) is found


def test_a_format_without_counters_is_not_assessed(make: Any) -> None:
    with pytest.raises(UnknownFact):
        list(batch_count_missing(make.layer(running_mean=[0.5])))


def test_legacy_names(make: Any) -> None:
    assert make.seen(legacy_names(make.layer(foreign_names={}))) == []
    ((level, message),) = make.seen(legacy_names(make.layer(foreign_names={"weight": "gamma"})))
    assert level is None
    assert "look for: gamma for weight." in message


@pytest.mark.parametrize(
    ("kind", "facts", "found"),
    [
        ("instance", {"has_running_stats": True}, True),
        ("instance", {"has_running_stats": False}, False),
        ("batch", {"has_running_stats": True, "running_var": [1.0]}, False),
    ],
)
def test_instance_norm_statistics(
    make: Any, kind: Any, facts: dict[str, object], found: bool
) -> None:
    layer = make.layer(kind, class_path="Norm", **facts)
    assert bool(make.seen(instance_norm_statistics(layer))) is found


def test_statistics_do_not_tell_an_instance_norm_from_a_batch_norm(make: Any) -> None:
    with pytest.raises(UnknownFact, match="class"):
        list(instance_norm_statistics(make.layer("batch", running_var=[1.0])))
