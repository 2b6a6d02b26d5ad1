"""What the page shows of a model: everything decided, nothing marked up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from bncheck.model import NormLayer
from bncheck.reports.contents import contents
from bncheck.reports.grouping import gaps
from bncheck.reports.html.findings import FindingView, finding_views
from bncheck.reports.html.layers import LayerViews, layer_views, worst
from bncheck.reports.identity import relative
from bncheck.reports.layout import layer_name, printable
from bncheck.reports.unassessed import NAMED_RANGES, sentence
from bncheck.reports.verdict import Style, live, verdict
from bncheck.running.outcome import Checked

LONGEST_ANCHOR = 80


class GapView(NamedTuple):
    """What could not be assessed, and what to give instead."""

    said: str
    instead: str


class ModelView(NamedTuple):
    """A section of the page; ``level`` is "error", "warning", "info" or "ok"."""

    anchor: str
    path: str
    member: str
    verdict: str
    level: str
    facts: tuple[tuple[str, str], ...]
    levels: Mapping[str, int]
    unmet: tuple[str, ...]
    findings: tuple[FindingView, ...]
    infos: tuple[FindingView, ...]
    suppressed: tuple[FindingView, ...]
    gaps: tuple[GapView, ...]
    norms: LayerViews


def model_view(
    checked: Checked, style: Style, anchor: str, draws: Callable[[str], bool]
) -> ModelView:
    """The section about a model, under an anchor with which those of its layers begin.

    ``draws`` decides for a level whether a layer of it has charts.
    """
    anchors = _anchors(anchor, checked.report.model.layers)
    found = tuple(live(checked))
    suppressed = (f for f in checked.report.assessment.findings if f.suppressed)
    return ModelView(
        anchor=anchor,
        path=printable(relative(checked.report.path)),
        member=printable(checked.report.model.member or ""),
        verdict=verdict(checked, style) or "findings",
        level="error" if checked.unmet else worst(f for f in found if style.is_wrong(f)),
        facts=_facts(checked),
        levels=Counter(finding.level.value for finding in found),
        unmet=tuple(printable(f"{each.rule}: {each.reason}") for each in checked.unmet),
        findings=finding_views((f for f in found if style.is_listed(f)), anchors),
        infos=finding_views((f for f in found if not style.is_listed(f)), anchors),
        suppressed=finding_views(suppressed, anchors),
        gaps=_gaps(checked),
        norms=layer_views(checked, found, anchors, draws),
    )


def _anchors(prefix: str, layers: Iterable[NormLayer]) -> dict[str, str]:
    """An anchor for each layer's name: readable, with nothing in it to escape, and unique."""
    taken: Counter[str] = Counter()
    anchors = {}
    for layer in layers:
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", layer_name(layer.name))[:LONGEST_ANCHOR]
        taken[slug] += 1
        again = f"~{taken[slug]}" if taken[slug] > 1 else ""
        anchors[layer.name] = f"{prefix}/{slug}{again}"
    return anchors


def _facts(checked: Checked) -> tuple[tuple[str, str], ...]:
    model, assessment = checked.report.model, checked.report.assessment
    facts = (
        ("holds", ", ".join(contents(model))),
        ("format", model.format),
        ("profile", f"{assessment.profile}: {assessment.profile_reason}"),
        ("evidence", ", ".join(sorted(model.evidence))),
        ("rules", f"{len(assessment.assessed)} of {len(checked.plan.rules)} assessed"),
    )
    return tuple((name, printable(text)) for name, text in facts if text)


def _gaps(checked: Checked) -> tuple[GapView, ...]:
    every = gaps(checked.report.assessment.not_assessed)
    return tuple(
        GapView(printable(sentence(gap, NAMED_RANGES)), printable(gap.instead.rstrip(".")))
        for gap in every
    )
