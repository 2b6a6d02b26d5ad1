"""Says each thing once: findings that many layers share, rules that lack the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from string import ascii_letters, digits
from typing import NamedTuple, TypeVar

from bncheck.finding import Finding, NotAssessed
from bncheck.reports.layout import layer_name, shortened

MAX_VARIANTS = 3  # so many messages of one rule are still listed each for itself
NAMED_LAYERS = 3

T = TypeVar("T")
K = TypeVar("K")


class Group(NamedTuple):
    """Findings of one rule at one level; an example is one message for several."""

    findings: tuple[Finding, ...]
    is_example: bool = False

    @property
    def first(self) -> Finding:
        """The finding that stands for the others."""
        return self.findings[0]

    @property
    def layers(self) -> tuple[str, ...]:
        """Where; empty for a finding about the whole model."""
        return tuple(dict.fromkeys(f.layer for f in self.findings if f.layer is not None))


def grouped(findings: Iterable[Finding]) -> list[Group]:
    """Errors first; within a level the finding that concerns few layers before the many."""
    by_rule = together(findings, lambda f: (f.level, f.rule))
    groups = [group for same in by_rule for group in _variants(same)]
    return sorted(groups, key=lambda g: (-g.first.level.rank, len(g.layers)))


def _variants(findings: Sequence[Finding]) -> list[Group]:
    variants = together(findings, lambda f: (f.message, f.fix))
    if len(variants) > MAX_VARIANTS:
        return [Group(tuple(findings), is_example=True)]
    return [Group(tuple(variant)) for variant in variants]


def by_reason(suppressed: Iterable[Finding]) -> list[Group]:
    """What is suppressed, the findings of a rule together where they share the reason."""
    return [Group(tuple(same)) for same in together(suppressed, lambda f: (f.rule, f.suppression))]


class Gap(NamedTuple):
    """Facts that are missing for one reason, and the rules that they keep open."""

    entries: tuple[NotAssessed, ...]

    @property
    def why(self) -> str:
        """What is the matter."""
        return self.entries[0].unknown.why

    @property
    def instead(self) -> str:
        """What to give instead; may be empty."""
        return self.entries[0].unknown.instead

    @property
    def facts(self) -> tuple[str, ...]:
        """What is missing."""
        return tuple(dict.fromkeys(each.unknown.what for each in self.entries))

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that stay open, in order."""
        return tuple(sorted({each.rule for each in self.entries}))

    @property
    def layers(self) -> int:
        """In how many layers; 0 where it is the whole model."""
        layers = {each.layer for each in self.entries}
        return 0 if None in layers else len(layers)


def gaps(not_assessed: Iterable[NotAssessed]) -> list[Gap]:
    """What could not be assessed, by reason."""
    by_reason = together(not_assessed, lambda each: (each.unknown.why, each.unknown.instead))
    return [Gap(tuple(entries)) for entries in by_reason]


def ranges(rules: Sequence[str]) -> list[str]:
    """Rule ids, ascending, with runs of consecutive numbers as ``BN101-106``."""
    numbered = [(rule.rstrip(digits), rule.lstrip(ascii_letters)) for rule in rules]
    runs = groupby(enumerate(numbered), lambda each: (each[1][0], int(each[1][1]) - each[0]))
    return [_range([parts for _, parts in run]) for _, run in runs]


def _range(run: Sequence[tuple[str, str]]) -> str:
    (family, first), (_, last) = run[0], run[-1]
    return f"{family}{first}" if len(run) == 1 else f"{family}{first}-{last}"


def where(layers: Sequence[str]) -> str:
    """Layers in words: ``bn1``, ``2 layers: bn1, bn2`` or ``53 layers: bn1, bn2, ... +51``."""
    names = [shortened(layer_name(layer)) for layer in layers]
    if len(names) <= 1:
        return "".join(names)
    if len(names) > NAMED_LAYERS:
        names[NAMED_LAYERS - 1 :] = [f"... +{len(names) - NAMED_LAYERS + 1}"]
    return f"{len(layers)} layers: {', '.join(names)}"


def count_by_name(findings: Iterable[Finding]) -> dict[str, int]:
    """How often each rule found something."""
    return {same[0].name: len(same) for same in together(findings, lambda f: f.rule)}


def together(items: Iterable[T], key: Callable[[T], K]) -> list[list[T]]:
    """Items with equal keys together, in order of first appearance."""
    together: dict[K, list[T]] = {}
    for item in items:
        together.setdefault(key(item), []).append(item)
    return list(together.values())
