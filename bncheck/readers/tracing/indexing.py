"""Indexing of a tensor, ``x[:, 0, None]``, as the operators that PyTorch makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bncheck.readers.aten import Argument, Call, Value, bind
from bncheck.readers.tracing.fx_values import argument


def calls(data: Argument, index: Any, output: str, rank: int | None) -> list[Call] | None:
    """The operators one after another, the last of which makes the output.

    None for what is no plain indexing: by tensors, by lists, or from the end of an unknown rank.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    expanded = _without_ellipsis(parts, rank)
    if expanded is None or not all(map(_is_plain, expanded)):
        return None
    made = list(_steps(expanded))
    names = [*(f"{output}:{i}" for i in range(1, len(made))), output]
    sources = [data, *map(Value, names)]
    return [
        bind(op, [source, *given], {}, (name,))
        for (op, given), source, name in zip(made, sources, names, strict=False)
    ] or [bind("alias", [data], {}, (output,))]


def _is_plain(part: Any) -> bool:
    return part is None or type(part) is int or isinstance(part, slice)


def _without_ellipsis(parts: list[Any], rank: int | None) -> list[Any] | None:
    """The parts with as many full slices as an ellipsis stands for."""
    places = [i for i, part in enumerate(parts) if part is ...]
    if not places:
        return parts
    before, after = parts[: places[0]], parts[places[0] + 1 :]
    if not after:
        return before
    if rank is None or len(places) > 1:
        return None
    taken = sum(part is not None for part in (*before, *after))
    return [*before, *[slice(None)] * (rank - taken), *after]


def _steps(parts: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    axis = 0
    for part in parts:
        if part is None:
            yield "unsqueeze", [axis]
        elif isinstance(part, slice):
            if part != slice(None):
                bounds = [argument(each) for each in (part.start, part.stop, part.step)]
                yield "slice", [axis, *bounds]
        else:
            yield "select", [axis, argument(part)]
            continue
        axis += 1
