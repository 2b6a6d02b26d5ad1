"""AC1xx: what the accelerator has no room for."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.finding import Observation
from bncheck.model import NormLayer


def device_width(layer: NormLayer, *, limit: int = 64) -> Iterator[Observation]:
    """AC101: more channels than the accelerator normalizes at once."""
    channels = layer.num_features
    if channels > limit:
        yield Observation(
            f"{channels} channels, and the accelerator normalizes {limit} at once.",
            {"num_features": channels, "limit": limit},
        )
