"""Graphs of steps that can be rewritten, and fingerprints by which they are compared."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from bncheck.graph import Node, NodeKind

NORMS = frozenset(
    {
        NodeKind.BATCH_NORM,
        NodeKind.INSTANCE_NORM,
        NodeKind.GROUP_NORM,
        NodeKind.LAYER_NORM,
        NodeKind.RMS_NORM,
    }
)
COMMUTING = frozenset({NodeKind.ADD, NodeKind.MUL})


@dataclass(eq=False)
class Step:
    """A node of the canonical graph; ``sources`` are steps, each with the number of its output."""

    kind: str
    facts: dict[str, object] = field(default_factory=dict)
    sources: list[tuple[Step, int]] = field(default_factory=list)
    node: Node | None = None
    readers: list[Step] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Everything about the step itself, in words."""
        return f"{self.kind}({', '.join(f'{n}={self.facts[n]}' for n in sorted(self.facts))})"

    @property
    def commutes(self) -> bool:
        """Whether the order of its sources does not matter."""
        return self.kind in COMMUTING and not {"subtract", "divide"} & self.facts.keys()


class StepGraph:
    """Steps in an order in which sources come first, and the outputs that are the results."""

    def __init__(self, steps: list[Step], results: list[tuple[Step, int]]) -> None:
        self.steps, self.results = steps, results
        self.put_in_order()

    def labels(self) -> Counter[str]:
        """What the graph is made of."""
        return Counter(step.label for step in self.steps)

    def sites(self) -> Counter[str]:
        """Each normalization with a fingerprint of all that is before it, and of all after it."""
        before, after = self._before(), self._after()
        norms = (step for step in self.steps if step.kind in NORMS)
        return Counter(f"{s.label} {before[id(s)]} {after[id(s)]}" for s in norms)

    def whole(self) -> str:
        """A fingerprint of the graph."""
        before = self._before()
        return _fingerprint(f"{before[id(step)]}.{port}" for step, port in self.results)

    def replace(self, old: Step, new: Step) -> None:
        """Let whoever reads a step read another, as its only output."""
        for step in self.steps:
            step.sources = [(new, 0) if s is old else (s, port) for s, port in step.sources]
        self.results = [(new, 0) if s is old else (s, port) for s, port in self.results]

    def only_reader(self, step: Step) -> Step | None:
        """What alone reads a step, if anything does."""
        is_result = any(step is result for result, _ in self.results)
        return step.readers[0] if len(step.readers) == 1 and not is_result else None

    def put_in_order(self) -> None:
        """Sources first, and without what no result depends on."""
        order: dict[int, Step] = {}
        seen: set[int] = set()
        stack = [(step, False) for step, _ in reversed(self.results)]
        while stack:
            step, is_done = stack.pop()
            if is_done:
                order[id(step)] = step
            elif id(step) not in seen:
                seen.add(id(step))
                stack.append((step, True))
                stack += ((source, False) for source, _ in reversed(step.sources))
        self.steps = [*order.values()]
        for step in self.steps:
            step.readers = []
        for step in self.steps:
            for source, _ in step.sources:
                source.readers.append(step)

    def _before(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for step in self.steps:
            sources = [f"{found[id(source)]}.{port}" for source, port in step.sources]
            ordered = sorted(sources) if step.commutes else sources
            found[id(step)] = _fingerprint([step.label, *ordered])
        return found

    def _after(self) -> dict[int, str]:
        readers: dict[int, list[str]] = {id(step): [] for step in self.steps}
        for number, (step, port) in enumerate(self.results):
            readers[id(step)].append(f"result {number} of {port}")
        found: dict[int, str] = {}
        for step in reversed(self.steps):
            found[id(step)] = _fingerprint([step.label, *sorted(readers[id(step)])])
            for position, (source, port) in enumerate(step.sources):
                place = 0 if step.commutes else position
                readers[id(source)].append(f"{found[id(step)]}.{place} of {port}")
        return found


def _fingerprint(parts: Iterable[str]) -> str:
    return hashlib.sha1("|".join(parts).encode()).hexdigest()[:12]
