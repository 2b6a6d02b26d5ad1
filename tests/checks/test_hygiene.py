"""BN8xx on facts made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.checks.hygiene import batch_count_missing
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
