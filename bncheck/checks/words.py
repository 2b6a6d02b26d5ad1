"""How checks put channels, nodes and names into messages and evidence."""

from __future__ import annotations

from collections.abc import Sequence

from bncheck.facts import Unknown
from bncheck.graph import Node
from bncheck.model import Model

CLASS = Unknown(
    "class", "a state_dict holds none", "check the exported .onnx, or the module saved whole"
)
LISTED = 16  # of many, in evidence
SHOWN = 3  # of many, in a message


def some(items: Sequence[object]) -> str:
    """The first few, and how many more: ``bn1, bn2, bn3, ... +50``."""
    shown = ", ".join(map(str, items[:SHOWN]))
    return shown if len(items) <= SHOWN else f"{shown}, ... +{len(items) - SHOWN}"


def where(indices: Sequence[int], total: int, noun: str = "channel") -> str:
    """``channel 17 of 256``, ``2 of 256 channels (3, 17)`` or ``every channel``."""
    if len(indices) == 1:
        return f"{noun} {indices[0]} of {total}"
    if len(indices) == total:
        return f"every {noun}"
    return f"{len(indices)} of {total} {noun}s ({some(indices)})"


def channels(indices: Sequence[int], total: int) -> dict[str, object]:
    """The evidence for some channels: the first of them, how many there are, and of how many."""
    return {"channels": list(indices[:LISTED]), "count": len(indices), "of": total}


def label(node: Node) -> str:
    """What to call a node in a message."""
    return node.label


def is_onnx(model: Model) -> bool:
    """Whether ONNX's conventions are the ones that the reader of a message knows."""
    return model.format in ("onnx", "ort")
