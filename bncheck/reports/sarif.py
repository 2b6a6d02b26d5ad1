"""SARIF 2.1.0 as GitHub code scanning takes it, for findings in binary files.

A binary has no lines: every result is at 1:1 of its file, says its layer in the message too, and
brings its own fingerprint. Suppressed findings are left out, since GitHub would show them as open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bncheck import __version__
from bncheck.catalogue import Rule
from bncheck.finding import Level
from bncheck.report import Unreadable, plain
from bncheck.reports.identity import Sighting, sightings, uri
from bncheck.reports.json import dump
from bncheck.reports.layout import layer_name, place, printable, shortened
from bncheck.reports.unassessed import said
from bncheck.reports.verdict import Style, telling_gaps
from bncheck.running.outcome import Checked, Outcome

Json = dict[str, object]
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Level.ERROR: "error", Level.WARNING: "warning", Level.INFO: "note"}
SEVERITIES = {Level.ERROR: "error", Level.WARNING: "warning", Level.INFO: "recommendation"}
PRECISIONS = {Level.ERROR: "very-high", Level.WARNING: "high", Level.INFO: "medium"}
LONGEST = 1024  # characters that GitHub takes of a description
MOST = 25_000  # results that GitHub takes of a run
TEXTS = ("shortDescription", "fullDescription", "help")  # what GitHub wants of a descriptor
START = {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1}
LINK = re.compile(r"\[(?=[^\]]*\]\()")
NOTIFICATIONS = {
    "unreadable": "A file that should have been checked could not be read.",
    "required": "A rule under --require could not be assessed.",
    "not-assessed": "A file does not show something, and rules stay open for it.",
    "left-out": "There are more results than GitHub takes of a run.",
}


def render(outcome: Outcome, style: Style) -> str:
    """The run as one SARIF run; a file that could not be read is a notification."""
    every = list(sightings(outcome, style))
    found = _most_grave(every)
    rules = _rules(outcome.checked, {each.finding.rule for each in found})
    indices = {id: index for index, id in enumerate(rules)}
    run = {
        "tool": {"driver": _driver(rules)},
        "automationDetails": {"id": "bncheck/"},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(outcome, style, len(every) - len(found))],
        "results": [_result(each, indices[each.finding.rule]) for each in found],
    }
    return dump({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _most_grave(found: list[Sighting]) -> list[Sighting]:
    """As many as GitHub takes, in the order of the run."""
    worst = sorted(range(len(found)), key=lambda i: -found[i].finding.level.rank)[:MOST]
    return [found[i] for i in sorted(worst)]


def _rules(checked: Iterable[Checked], ids: set[str]) -> dict[str, Rule]:
    known = {rule.id: rule for each in checked for rule in each.plan.rules}
    return {id: known[id] for id in sorted(ids)}


def _driver(rules: dict[str, Rule]) -> Json:
    return {
        "name": "bncheck",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_descriptor(rule) for rule in rules.values()],
        "notifications": [
            {"id": id, **{key: {"text": text} for key in TEXTS}}
            for id, text in NOTIFICATIONS.items()
        ],
    }


def _descriptor(rule: Rule) -> Json:
    return {
        "id": rule.id,
        "name": rule.name.title().replace("-", ""),
        "shortDescription": {"text": f"{rule.headline}."},
        "fullDescription": {"text": shortened(rule.summary, LONGEST)},
        "help": {"text": f"{rule.summary} Fix: {rule.fix}", "markdown": rule.page},
        "defaultConfiguration": {"level": LEVELS[rule.level]},
        "properties": {
            "tags": ["normalization", rule.check_name.partition(":")[0]],
            "precision": PRECISIONS[rule.level],
            "problem.severity": SEVERITIES[rule.level],
        },
    }


def _result(seen: Sighting, index: int) -> Json:
    finding, member = seen.finding, seen.checked.report.model.member
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": LEVELS[finding.level],
        "message": {"text": _message(seen)},
        "locations": [{"physicalLocation": _at(seen.path), "logicalLocations": _inside(seen)}],
        "partialFingerprints": {"primaryLocationLineHash": seen.fingerprint},
        "properties": {"member": member, "evidence": plain(finding.evidence), "fix": finding.fix},
    }


def _at(path: str) -> Json:
    return {**_file(path), "region": START}


def _file(path: str) -> Json:
    return {"artifactLocation": {"uri": uri(path)}}


def _inside(seen: Sighting) -> list[Json]:
    """The layer, within its member; the model as a whole where a finding is about all of it."""
    member, layer = seen.checked.report.model.member, seen.finding.layer
    names = [*([member] if member else []), *([layer_name(layer)] if layer is not None else [])]
    if not names:
        return []
    whole = "/".join(map(printable, names))
    return [{"name": printable(names[-1]), "fullyQualifiedName": whole, "kind": "module"}]


def _message(seen: Sighting) -> str:
    finding = seen.finding
    fix = f" Fix: {finding.fix}" if finding.fix else ""
    where = place(finding.layer, seen.checked.report.model.member)
    return _literal(f"{where}{finding.message}{fix}")


def _literal(text: str) -> str:
    """Text in which nothing is a link of SARIF's, and no character is invisible."""
    return LINK.sub(r"\\[", printable(text))


def _invocation(outcome: Outcome, style: Style, left_out: int) -> Json:
    return {
        "executionSuccessful": not outcome.report.unreadable,
        "exitCode": outcome.exit_code,
        "toolExecutionNotifications": [
            *_notifications(outcome, style),
            *([_notification("left-out", "warning", f"{left_out} left out.")] if left_out else []),
        ],
    }


def _notifications(outcome: Outcome, style: Style) -> Iterator[Json]:
    for entry in outcome.entries:
        if isinstance(entry, Unreadable):
            yield _notification("unreadable", "error", entry.error, entry.path)
        elif isinstance(entry, Checked):
            yield from _open(entry, style)


def _open(checked: Checked, style: Style) -> Iterator[Json]:
    path = checked.report.path
    for each in checked.unmet:
        text = f"{each.rule} is required and was not assessed: {each.reason}"
        yield _notification("required", "error", text, path)
    for gap in telling_gaps(checked, style):
        yield _notification("not-assessed", "note", said(gap, checked, style), path)


def _notification(id: str, level: str, text: str, path: str | None = None) -> Json:
    place = {} if path is None else {"locations": [{"physicalLocation": _file(path)}]}
    return {
        "descriptor": {"id": id, "index": list(NOTIFICATIONS).index(id)},
        "level": level,
        "message": {"text": _literal(text)},
        **place,
    }
