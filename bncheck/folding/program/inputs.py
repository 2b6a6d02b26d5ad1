"""Arguments with which an ExportedProgram is run: given, its own examples, or random numbers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bncheck.errors import CannotFold
from bncheck.folding.torch.feeds import Feed, variations

RANDOM_SEED = 0


def feeds(program: Any, inputs: object | None) -> Iterator[Feed]:
    """One that fits, and variations of it.

    Raises CannotFold where there are more or fewer ``inputs`` than the program takes.
    """
    first = _example(program) or _random(program) if inputs is None else given(program, inputs)
    yield first
    yield from variations(first)


def given(program: Any, inputs: object) -> Feed:
    """What a user gives: a tensor, a tuple or list by position, or a mapping by name."""
    names = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
    if isinstance(inputs, Mapping):
        held = dict(inputs)
        known = held.keys() == {*names} and not _keywords(program)
        feed = Feed(tuple(held[name] for name in names)) if known else Feed((), held)
    else:
        several = inputs if isinstance(inputs, tuple | list) else (inputs,)
        feed = Feed(tuple(several))
    _require_as_many(program, feed, names)
    return feed


def _keywords(program: Any) -> Sequence[str]:
    """The names of arguments that the program takes by name alone."""
    structure = program.call_spec.in_spec
    empty = _tree().tree_unflatten([None] * structure.num_leaves, structure)
    return [*empty[1]]


def _require_as_many(program: Any, feed: Feed, names: Sequence[str]) -> None:
    found = len(_tree().tree_flatten((feed.args, dict(feed.kwargs)))[0])
    wanted = program.call_spec.in_spec.num_leaves
    if found != wanted:
        taken = f"{wanted} ({', '.join(names)})"
        raise CannotFold(f"the inputs do not fit: the program takes {taken}, {found} are given")


def _example(program: Any) -> Feed | None:
    held = program.example_inputs
    return Feed(tuple(held[0]), dict(held[1])) if held else None


def _random(program: Any) -> Feed:
    """Numbers of the shapes that the program was exported with."""
    torch: Any = importlib.import_module("torch")
    nodes = {node.name: node for node in program.graph.nodes}
    made = []
    for name in program.graph_signature.user_inputs:
        like = nodes[name].meta["val"] if isinstance(name, str) and name in nodes else name
        made.append(_like(torch, like) if isinstance(like, torch.Tensor) else like)
    args, kwargs = _tree().tree_unflatten(made, program.call_spec.in_spec)
    return Feed(tuple(args), dict(kwargs))


def _like(torch: Any, fake: Any) -> Any:
    shape = [int(size) for size in fake.shape]
    if fake.is_floating_point():
        random = torch.Generator().manual_seed(RANDOM_SEED)
        return torch.randn(shape, generator=random).to(fake.device, fake.dtype)
    return torch.zeros(shape, dtype=fake.dtype, device=fake.device)


def _tree() -> Any:
    return importlib.import_module("torch.utils._pytree")
