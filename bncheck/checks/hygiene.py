"""BN8xx: what a checkpoint should hold beside its tensors."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks.words import CLASS
from bncheck.facts import UnknownFact
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


def legacy_names(layer: NormLayer) -> Iterator[Observation]:
    """BN801: tensors under names of another library, or of an old release."""
    names = layer.foreign_names
    if names:
        listed = ", ".join(f"{name} for {role}" for role, name in names.items())
        yield Observation(
            f"Named otherwise than PyTorch's layers look for: {listed}. With strict=False "
            "load_state_dict drops them and leaves the layer as it was made.",
            {"names": dict(names)},
        )


def instance_norm_statistics(layer: NormLayer) -> Iterator[Observation]:
    """BN803: an InstanceNorm that keeps running statistics."""
    if layer.kind != "instance":
        if layer.class_path is None and layer.get(NormLayer.running_var, None) is not None:
            raise UnknownFact(CLASS)
    elif layer.has_running_stats:
        yield Observation(
            "An InstanceNorm with running statistics: eval mode normalizes with them, not with "
            "those of each instance, so training and inference compute different functions.",
            {"has_running_stats": True},
        )
