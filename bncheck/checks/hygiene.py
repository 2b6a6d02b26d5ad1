"""BN8xx: what a checkpoint should hold beside its tensors."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.finding import Observation
from bncheck.model import NormLayer


def batch_count_missing(layer: NormLayer) -> Iterator[Observation]:
    """BN802: running statistics without num_batches_tracked."""
    if layer.running_mean is not None and layer.num_batches_tracked is None:
        yield Observation(
            "No num_batches_tracked beside the running statistics: how many batches they come from "
            "is lost.",
            {"num_batches_tracked": None},
        )
