"""What a report says of a model as a whole, under the level that fails the run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bncheck.catalogue import Rule
from bncheck.configuration.settings import FailOn
from bncheck.finding import Finding, Level
from bncheck.model import NormLayer
from bncheck.reports.grouping import Gap, gaps
from bncheck.reports.layout import Paint, plain
from bncheck.running.outcome import Checked

OK, PARTLY = "ok", "ok, partly assessed"
WITHOUT, NONE_KNOWN = "no BatchNorm", "no known BatchNorm"
WRONG = ""  # what is wrong follows
# A graph has no batch counters; what they would prove is judged by the statistics alone.
NEVER_TOLD = {"graph": frozenset({NormLayer.num_batches_tracked.what})}


class Style(NamedTuple):
    """How to write: the level that fails the run, whether infos are listed, colours."""

    fail_on: FailOn = "error"
    show_info: bool = False
    paint: Paint = plain

    @property
    def gate(self) -> Level:
        """The level from which an open rule makes a model partly assessed."""
        return Level.ERROR if self.fail_on == "never" else Level(self.fail_on)

    def is_wrong(self, finding: Finding) -> bool:
        """Whether a finding speaks against the model: a warning at least, or what fails the run."""
        return finding.level.rank >= min(Level.WARNING.rank, self.gate.rank)

    def is_listed(self, finding: Finding) -> bool:
        """Whether a finding is listed rather than counted."""
        return self.show_info or self.is_wrong(finding)


def live(checked: Checked) -> Iterable[Finding]:
    """The findings that are not suppressed."""
    return (f for f in checked.report.assessment.findings if not f.suppressed)


def verdict(checked: Checked, style: Style) -> str:
    """What stands behind the path."""
    if checked.unmet or any(map(style.is_wrong, live(checked))):
        return WRONG
    if not checked.report.model.batch_norms:
        unknown = any(layer.kind is None for layer in checked.report.model.layers)
        return NONE_KNOWN if unknown else WITHOUT
    return PARTLY if open_gates(checked, style) else OK


def open_gates(checked: Checked, style: Style) -> tuple[str, ...]:
    """The rules that could have failed the run, and could not be assessed, in order.

    A rule that only lacks what this kind of file never tells, and what others judge in its place,
    counts where it is required.
    """
    never_told = NEVER_TOLD.get(checked.report.model.content, frozenset())
    missing = {
        each.rule
        for each in checked.report.assessment.not_assessed
        if each.unknown.what not in never_told or each.rule in checked.plan.required
    }
    return tuple(sorted(missing & _gating(checked, style)))


def _gating(checked: Checked, style: Style) -> frozenset[str]:
    """The rules that could fail the run: required, or at their own level grave enough."""
    profile = checked.report.assessment.profile
    levels = checked.plan.policy.levels

    def level(rule: Rule) -> Level:
        return levels.get(rule.id) or rule.capped(rule.level, profile)

    least = style.gate.rank
    grave = (rule.id for rule in checked.plan.rules if level(rule).rank >= least)
    return checked.plan.required.union(grave)


def telling_gaps(checked: Checked, style: Style) -> list[Gap]:
    """What is worth saying of what could not be assessed."""
    every = gaps(checked.report.assessment.not_assessed)
    if style.show_info:
        return every
    if verdict(checked, style) in (WITHOUT, NONE_KNOWN):
        gone = checked.report.model.statistics_gone
        return [gap for gap in every if gap.entries[0].unknown == gone]
    return [gap for gap in every if not set(gap.rules).isdisjoint(open_gates(checked, style))]
