"""What checks ask of the calls of a layer."""

from __future__ import annotations

from bncheck.graph import Node
from bncheck.model import Model


def sees_data(call: Node, model: Model) -> bool:
    """Whether a call normalizes what a caller gives; that of a module always does.

    Weight standardization normalizes a parameter.
    """
    if model.content != "graph":
        return True
    return bool(call.inputs) and model.order.depends_on_input(call.inputs[0])
