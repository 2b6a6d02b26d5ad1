"""Findings as the page shows them: where, what, and the numbers in a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bncheck.finding import Finding
from bncheck.report import plain
from bncheck.reports.grouping import Group, grouped
from bncheck.reports.layout import layer_name, printable, shortened

MOST_ROWS = 100  # of a table


class Place(NamedTuple):
    """A layer, and its anchor on the page; None where it has none."""

    name: str
    anchor: str | None


class FindingView(NamedTuple):
    """What a rule says of one or several layers; the rows are the numbers behind it."""

    rule: str
    name: str
    level: str
    message: str
    fix: str
    suppression: str
    is_example: bool
    places: tuple[Place, ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[Place | None, tuple[str, ...]], ...]

    @property
    def more_rows(self) -> int:
        """How many places have no row."""
        return max(len(self.places) - len(self.rows), 0)


def finding_views(
    findings: Iterable[Finding], anchors: Mapping[str, str]
) -> tuple[FindingView, ...]:
    """Findings, each said once for all layers that it is about; the worst first."""
    return tuple(_view(group, anchors) for group in grouped(findings))


def _view(group: Group, anchors: Mapping[str, str]) -> FindingView:
    first = group.first
    shown = group.findings[:MOST_ROWS]
    heads = tuple(dict.fromkeys(key for finding in shown for key in finding.evidence))
    rows = [(_place(f.layer, anchors), _cells(f.evidence, heads)) for f in shown] if heads else []
    if len({cells for _, cells in rows}) == 1 and not group.is_example:
        rows = [(rows[0][0] if len(rows) == 1 else None, rows[0][1])]
    return FindingView(
        rule=first.rule,
        name=first.name,
        level=first.level.value,
        message=printable(first.message),
        fix=printable(first.fix),
        suppression=printable(first.suppression),
        is_example=group.is_example,
        places=tuple(Place(shortened(layer_name(at)), anchors.get(at)) for at in group.layers),
        heads=tuple(head.replace("_", " ") for head in heads),
        rows=tuple(rows),
    )


def _place(layer: str | None, anchors: Mapping[str, str]) -> Place | None:
    return None if layer is None else Place(shortened(layer_name(layer)), anchors.get(layer))


def _cells(evidence: Mapping[str, object], heads: Iterable[str]) -> tuple[str, ...]:
    return tuple(_written(plain(evidence[head])) if head in evidence else "" for head in heads)


def _written(value: object) -> str:
    """A value of evidence for people: numbers in four digits, lists and tables in a line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_written, value))
    if isinstance(value, dict):
        return ", ".join(f"{printable(str(key))}: {_written(each)}" for key, each in value.items())
    return (
        "none"
        if value is None
        else printable(value if isinstance(value, str) else json.dumps(value))
    )
