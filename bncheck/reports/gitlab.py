"""GitLab's code quality report: a list of issues, told apart by their fingerprints.

GitLab drops issues of equal fingerprint, wants a line of every file, and shows no rule but what the
description says.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from bncheck.finding import Level
from bncheck.report import Unreadable
from bncheck.reports.identity import DIGITS, Sighting, relative, sightings
from bncheck.reports.json import dump
from bncheck.reports.layout import place, printable
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Checked, Outcome

SEVERITIES = {Level.ERROR: "critical", Level.WARNING: "major", Level.INFO: "info"}
UNREADABLE, REQUIRED = "unreadable", "required"


def render(outcome: Outcome, style: Style) -> str:
    """Every listed finding, each file that could not be read, each required rule left open."""
    return dump([*_problems(outcome), *map(_issue, sightings(outcome, style))])


def _problems(outcome: Outcome) -> Iterator[dict[str, object]]:
    for entry in outcome.entries:
        if isinstance(entry, Unreadable):
            said = f"unreadable: {entry.error}"
            yield _entry(UNREADABLE, said, _digest(UNREADABLE, entry.path), "blocker", entry.path)
        elif isinstance(entry, Checked):
            yield from _unmet(entry)


def _unmet(checked: Checked) -> Iterator[dict[str, object]]:
    path, member = checked.report.path, checked.report.model.member or ""
    for each in checked.unmet:
        fingerprint = _digest(REQUIRED, each.rule, path, member)
        said = f"{each.rule} is required and was not assessed: {each.reason}"
        yield _entry(each.rule, said, fingerprint, "critical", path)


def _issue(seen: Sighting) -> dict[str, object]:
    finding = seen.finding
    where = place(finding.layer, seen.checked.report.model.member)
    said = f"{finding.rule} {finding.name}: {where}{finding.message}"
    severity = SEVERITIES[finding.level]
    return _entry(finding.rule, said, seen.fingerprint, severity, seen.path)


def _entry(
    rule: str, description: str, fingerprint: str, severity: str, path: str
) -> dict[str, object]:
    return {
        "type": "issue",
        "check_name": rule,
        "description": printable(description),
        "categories": ["Bug Risk"],
        "severity": severity,
        "fingerprint": fingerprint,
        "location": {"path": printable(relative(path)), "lines": {"begin": 1}},
    }


def _digest(*words: str) -> str:
    path_last = "\0".join(map(printable, words))
    return sha256(path_last.encode()).hexdigest()[:DIGITS]
