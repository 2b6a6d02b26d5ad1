"""What those who folded BatchNorm away left in the file: in metadata of nodes, or in names."""

from __future__ import annotations

from bncheck.readers.onnx.proto import ModelProto

FUSED_BIAS = ("ConvBnFusion_BN_B_", "ConvBnFusion_Conv_B_")  # names that onnxruntime gives


def folding_marks(proto: ModelProto) -> str | None:
    """How often and by whom BatchNorm was folded; None where nothing is marked."""
    return _by_rewriter(proto) or _by_onnxruntime(proto)


def _by_onnxruntime(proto: ModelProto) -> str | None:
    sites = sum(tensor.name.startswith(FUSED_BIAS) for tensor in proto.graph.initializers)
    return f"onnxruntime folded it ({_sites(sites)})" if sites else None


def _by_rewriter(proto: ModelProto) -> str | None:
    nodes = [*proto.graph.nodes, *(node for each in proto.functions for node in each.nodes)]
    marks = [rule for node in nodes for rule in node.rewrites if rule.startswith("FuseBatchNorm")]
    if not marks:
        return None
    return f"the exporter folded it ({_sites(len(marks))} marked {', '.join(sorted(set(marks)))})"


def _sites(number: int) -> str:
    return "1 site" if number == 1 else f"{number} sites"
