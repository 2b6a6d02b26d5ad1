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


def padded_axes(node: Node, rank: int) -> frozenset[int]:
    """The axes that a PAD makes longer; all where it does not tell."""
    sides = integers(node, "padding")
    if sides is None:
        return frozenset(range(rank))
    half = len(sides) // 2
    axes = integers(node, "axes") or tuple(range(half))
    each = zip(axes, sides[:half], sides[half:], strict=False)
    return frozenset(axis % rank for axis, before, after in each if before or after)


def permutation(node: Node, rank: int) -> tuple[int, ...] | None:
    """Which axis of the data becomes each axis, where a RESHAPE only transposes."""
    order, one, other = integers(node, "perm"), integer(node, "dim0"), integer(node, "dim1")
    if order is not None:
        return order if len(order) == rank else None
    if one is None or other is None:
        return None
    axes = [*range(rank)]
    axes[one % rank], axes[other % rank] = axes[other % rank], axes[one % rank]
    return tuple(axes)
