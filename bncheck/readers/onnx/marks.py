"""What an exporter's rewriter left in the metadata of nodes when it folded BatchNorm away."""

from __future__ import annotations

from bncheck.readers.onnx.proto import ModelProto


def rewriter_marks(proto: ModelProto) -> str | None:
    """How often and by which of onnxscript's rules; None where nothing is marked."""
    nodes = [*proto.graph.nodes, *(node for each in proto.functions for node in each.nodes)]
    marks = [rule for node in nodes for rule in node.rewrites if rule.startswith("FuseBatchNorm")]
    if not marks:
        return None
    sites = "1 site" if len(marks) == 1 else f"{len(marks)} sites"
    return f"the exporter folded it ({sites} marked {', '.join(sorted(set(marks)))})"
