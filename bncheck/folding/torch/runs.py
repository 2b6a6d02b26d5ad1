"""Runs a module, and listens to what goes on inside."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from bncheck.folding.torch import values
from bncheck.folding.torch.feeds import Feed
from bncheck.folding.torch.surgery import Surgery, as_it_was
from bncheck.readers.tracing import sandbox

ROOM = 2**28  # bytes of values inside that are kept at a time

Kept = tuple[Any, str]  # a numpy array, and the name of its dtype


@dataclass(slots=True)
class Observed:
    """What a run gave: outputs by name, and what modules inside made, call by call."""

    outputs: dict[str, Kept] = field(default_factory=dict)
    sites: dict[str, list[Kept]] = field(default_factory=dict)
    room: int = ROOM

    def listen(self, name: str, made: Any) -> None:
        """Keep what is made at a place, as long as there is room."""
        kept = [values.array(tensor) for _, tensor in values.tensors(made)]
        if name in self.sites or self.room > 0:
            self.sites.setdefault(name, []).extend(kept)
            self.room -= sum(array.nbytes for array, _ in kept)


class Runner(Protocol):
    """A model that can be run."""

    def run(self, feed: Feed, sites: Sequence[str]) -> Observed:
        """Run it, and listen at some places. Raises whatever its code does."""

    def run_nudged(self, feed: Feed, sites: Sequence[str], seed: int) -> Observed:
        """Run it with parameters that are off by one rounding, up or down at random."""


@dataclass(frozen=True)
class ModuleRunner:
    """A module, run in eval mode, with its changes made or not.

    ``nudged`` are qualified names of tensors.
    """

    module: Any
    surgery: Surgery
    is_folded: bool
    nudged: Sequence[str] = ()

    def run(self, feed: Feed, sites: Sequence[str]) -> Observed:
        """See Runner."""
        return self._run(self.module, feed, sites)

    def run_nudged(self, feed: Feed, sites: Sequence[str], seed: int) -> Observed:
        """See Runner."""
        functional_call: Any = importlib.import_module("torch.func").functional_call
        off = nudged(named(self.module, self.nudged), seed)

        def call(*args: Any, **kwargs: Any) -> Any:
            return functional_call(self.module, off, args, kwargs)

        return self._run(call, feed, sites)

    def _run(self, call: Callable[..., Any], feed: Feed, sites: Sequence[str]) -> Observed:
        observed = Observed()
        (self.surgery.apply if self.is_folded else self.surgery.undo)()
        with sandbox.quiet(), as_it_was(self.module):
            self.module.eval()
            modules = {name: self.module.get_submodule(name) for name in sites}
            with listening(modules, observed):
                observed.outputs = outputs(call, feed)
        return observed


@contextmanager
def listening(modules: Mapping[str, Any], observed: Observed) -> Iterator[None]:
    """Note what modules make, each under its name."""

    def hook(name: str) -> Callable[..., None]:
        return lambda module, args, made: observed.listen(name, made)

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(hook(name)).remove)
        yield


def outputs(call: Callable[..., Any], feed: Feed) -> dict[str, Kept]:
    """What a call gives, with the same random numbers each time and inputs of its own."""
    torch: Any = importlib.import_module("torch")
    own = feed.changed(lambda tensor: tensor.detach().clone())
    torch.manual_seed(0)
    made = call(*own.args, **own.kwargs)
    return {name or "output": values.array(tensor) for name, tensor in values.tensors(made)}


def nudged(tensors: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Tensors whose every element is off by one rounding, up or down at random."""
    return dict(_nudged(tensors.items(), seed))


def named(module: Any, names: Iterable[str]) -> dict[str, Any]:
    """Parameters and buffers of a module, as far as it has some of these names."""
    held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: held[name] for name in names if name in held}


def _nudged(tensors: Iterable[tuple[str, Any]], seed: int) -> Iterator[tuple[str, Any]]:
    torch: Any = importlib.import_module("torch")
    random = torch.Generator().manual_seed(seed)
    for name, tensor in tensors:
        if tensor.is_floating_point():
            sign = torch.randint(2, tensor.shape, generator=random).to(tensor.device) * 2 - 1
            wide = tensor.detach().double()
            off = wide * (1 + sign * torch.finfo(tensor.dtype).eps)
            yield name, off.to(tensor.dtype)
