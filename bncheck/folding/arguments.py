"""Typed access to the attributes of nodes."""

from __future__ import annotations

from bncheck.graph import Node


def integer(node: Node, name: str) -> int | None:
    """An integer attribute, None where it is absent or something else."""
    value = node.attributes.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def integers(node: Node, name: str) -> tuple[int, ...] | None:
    """A tuple of integers, None where it is absent or one of them is not known."""
    value = node.attributes.get(name)
    if isinstance(value, tuple) and all(isinstance(each, int) for each in value):
        return value
    return None


def flag(node: Node, name: str, default: bool = False) -> bool:
    """A truth; the default where it is absent."""
    value = node.attributes.get(name, default)
    return bool(value)
