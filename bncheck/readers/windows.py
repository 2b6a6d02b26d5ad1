"""The sizes that convolution and pooling leave of space, as torch.nn's pages give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bncheck.graph import Node, Shape

Each = Callable[..., int | None]


def conv_space(node: Node, space: Shape) -> Shape:
    """floor((size + padding - dilation (kernel - 1) - 1) / stride) + 1 for each axis."""
    if node.attributes.get("padding") == "same":
        return tuple(None for _ in space)
    return tuple(_along(node, space, _shrunk))


def pool_space(node: Node, space: Shape) -> Shape:
    """The same; unknown where ``ceil_mode`` would make a difference."""
    if node.attributes.get("ceil_mode"):
        return tuple(_along(node, space, _shrunk_evenly))
    return conv_space(node, space)


def transposed_space(node: Node, space: Shape) -> Shape:
    """(size - 1) stride - padding + dilation (kernel - 1) + output_padding + 1 for each axis."""
    return tuple(_along(node, space, _grown))


def _along(node: Node, space: Shape, rule: Each) -> Iterator[int | None]:
    columns = [_column(node, name, len(space)) for name in ("kernel_size", "stride", "dilation")]
    padding, added = _sides(node, len(space)), _column(node, "output_padding", len(space))
    for axis, size in enumerate(space):
        numbers = [column[axis] for column in (*columns, padding)]
        known = size is not None and None not in numbers
        yield rule(size, *numbers, added[axis] or 0) if known else None


def _column(node: Node, name: str, rank: int) -> list[int | None]:
    held = node.attributes.get(name)
    return [*held] if isinstance(held, tuple) and len(held) == rank else [None] * rank


def _sides(node: Node, rank: int) -> list[int | None]:
    """The padding of both sides together."""
    held = node.attributes.get("padding")
    sides = held if isinstance(held, tuple) else ()
    if len(sides) == rank:
        return [2 * side for side in sides]
    if len(sides) == 2 * rank:
        return [before + after for before, after in zip(sides[:rank], sides[rank:], strict=True)]
    return [None] * rank


def _shrunk(size: int, kernel: int, stride: int, dilation: int, padding: int, _: int) -> int | None:
    rest = size + padding - dilation * (kernel - 1) - 1
    return rest // stride + 1 if stride > 0 and rest >= 0 else None


def _shrunk_evenly(
    size: int, kernel: int, stride: int, dilation: int, padding: int, _: int
) -> int | None:
    rest = size + padding - dilation * (kernel - 1) - 1
    return rest // stride + 1 if stride > 0 and rest >= 0 and rest % stride == 0 else None


def _grown(
    size: int, kernel: int, stride: int, dilation: int, padding: int, added: int
) -> int | None:
    return (size - 1) * stride - padding + dilation * (kernel - 1) + added + 1
