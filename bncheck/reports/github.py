"""Workflow commands: what GitHub Actions makes annotations of.

It shows ten of a kind for each step and drops the rest: there is one for each file and rule, worst
first, and where there are more the last one counts those that are left.
https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from bncheck.finding import Finding, Level
from bncheck.report import Unreadable
from bncheck.reports.contents import plural
from bncheck.reports.grouping import together, where
from bncheck.reports.identity import relative
from bncheck.reports.layout import plain, printable, shortened
from bncheck.reports.summary import summary
from bncheck.reports.unassessed import said
from bncheck.reports.verdict import PARTLY, Style, live, telling_gaps, verdict
from bncheck.running.outcome import Checked, Outcome

CAP = 10  # annotations of a kind that a step shows
COMMANDS = {Level.ERROR: "error", Level.WARNING: "warning", Level.INFO: "notice"}
DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
PROPERTY = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})
LONGEST = 4000  # characters of a line


class Annotation(NamedTuple):
    """What is shown at a file; a binary has no line to show it at."""

    kind: str
    path: str
    title: str
    lines: tuple[str, ...]

    @property
    def command(self) -> str:
        """What GitHub reads, a line."""
        file = f"file={printable(self.path).translate(PROPERTY)}," if self.path else ""
        title = printable(self.title).translate(PROPERTY)
        message = "\n".join(shortened(line, LONGEST) for line in self.lines).translate(DATA)
        return f"::{self.kind} {file}title={title}::{message}\n"


def render(outcome: Outcome, style: Style) -> str:
    """Annotations, errors first, and the line that sums up the run."""
    every = list(chain(_problems(outcome), _found(outcome, style), _open(outcome, style)))
    kinds = (_capped([each for each in every if each.kind == kind]) for kind in COMMANDS.values())
    commands = "".join(each.command for each in chain.from_iterable(kinds))
    return commands + summary(outcome, style._replace(paint=plain))


def _capped(annotations: list[Annotation]) -> list[Annotation]:
    if len(annotations) <= CAP:
        return annotations
    shown, rest = annotations[: CAP - 1], annotations[CAP - 1 :]
    files = len({each.path for each in rest})
    line = f"{len(rest)} more in {files} {plural(files, 'file')}: see the full report."
    return [*shown, Annotation(rest[0].kind, "", f"{len(rest)} more", (line,))]


def _problems(outcome: Outcome) -> Iterator[Annotation]:
    for file in outcome.report.unreadable:
        yield Annotation("error", _path(file), "bncheck: unreadable", (file.error,))
    for checked in outcome.checked:
        for each in checked.unmet:
            title = f"{each.rule} is required and was not assessed"
            yield Annotation("error", _path(checked), title, (each.reason,))


def _found(outcome: Outcome, style: Style) -> Iterator[Annotation]:
    listed = (
        (_path(checked), checked.report.model.member, finding)
        for checked in outcome.checked
        for finding in filter(style.is_listed, live(checked))
    )
    for same in together(listed, lambda each: (each[0], each[2].level, each[2].rule)):
        path, members = same[0][0], dict.fromkeys(member for _, member, _ in same if member)
        yield _annotation(path, list(members), [finding for _, _, finding in same])


def _annotation(path: str, members: list[str], findings: list[Finding]) -> Annotation:
    first, messages = findings[0], {finding.message for finding in findings}
    layers = tuple(dict.fromkeys(f.layer for f in findings if f.layer is not None))
    at = [f"[{', '.join(map(shortened, members))}]"] if members else []
    at += [where(layers)] if layers else []
    example = "For example: " if len(messages) > 1 else ""
    line = f"{' '.join(at)}{': ' if at else ''}{example}{first.message}"
    fix = (f"Fix: {first.fix}",) if first.fix else ()
    return Annotation(COMMANDS[first.level], path, f"{first.rule} {first.name}", (line, *fix))


def _open(outcome: Outcome, style: Style) -> Iterator[Annotation]:
    for checked in outcome.checked:
        if verdict(checked, style) == PARTLY:
            gaps = telling_gaps(checked, style)
            lines = tuple(said(gap, checked, style) for gap in gaps)
            yield Annotation("notice", _path(checked), "bncheck: partly assessed", lines)


def _path(entry: Checked | Unreadable) -> str:
    path = entry.report.path if isinstance(entry, Checked) else entry.path
    return relative(path)
