"""What a run comes to: its entries, each under the plan it was made by, and the exit code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from bncheck.configuration.settings import FailOn, Plan
from bncheck.finding import Level, NotAssessed
from bncheck.report import NO_NOTES, ModelReport, Notes, Report, Unreadable

OK, FINDINGS, FAILED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Checked:
    """One model's report, under the plan that it was made by."""

    report: ModelReport
    plan: Plan

    @cached_property
    def unmet(self) -> tuple[NotAssessed, ...]:
        """For each required rule that could not be assessed everywhere, where it first was not."""
        missing = {each.rule: each for each in reversed(self.report.assessment.not_assessed)}
        return tuple(missing[rule] for rule in sorted(self.plan.required & missing.keys()))


class Skipped(NamedTuple):
    """What lay in a folder and is no model."""

    path: str


Entry = Checked | Unreadable | Skipped


@dataclass(frozen=True, eq=False)
class Outcome:
    """All entries of a run, in order, and the level at which it fails."""

    entries: tuple[Entry, ...]
    fail_on: FailOn = "error"
    notes: Notes = NO_NOTES

    @cached_property
    def report(self) -> Report:
        """What the run found, without the plans behind it."""
        files = (e.report if isinstance(e, Checked) else e for e in self.entries)
        return Report(
            tuple(file for file in files if not isinstance(file, Skipped)),
            tuple(entry.path for entry in self.entries if isinstance(entry, Skipped)),
            self.notes,
        )

    @cached_property
    def checked(self) -> tuple[Checked, ...]:
        """The models that could be read."""
        return tuple(entry for entry in self.entries if isinstance(entry, Checked))

    @property
    def exit_code(self) -> int:
        """0 nothing wrong, 1 findings or a required rule left open, 2 could not do the job."""
        if self.report.unreadable or not self.checked:
            return FAILED
        if any(checked.unmet for checked in self.checked):
            return FINDINGS
        if self.fail_on == "never" or not self.report.at_or_above(Level(self.fail_on)):
            return OK
        return FINDINGS
