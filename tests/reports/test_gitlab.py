"""GitLab's code quality report has what GitLab documents, and issues that it tells apart."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from bncheck.report import Unreadable
from bncheck.reports.gitlab import render
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Outcome

# docs.gitlab.com, "Code Quality report format": these keys, these severities, one JSON array.
DOCUMENTED = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "location", "severity"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "minLength": 1},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": r"^(?!\./)"},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}


def issues(*entries: Any, **style: Any) -> list[Any]:
    report = json.loads(render(Outcome(entries), Style(**style)))
    jsonschema.validate(report, DOCUMENTED)
    prints = [issue["fingerprint"] for issue in report]
    assert len(set(prints)) == len(prints)
    return list(report)


def test_nothing_wrong_is_an_empty_list(make: Any) -> None:
    assert issues(make.checked(make.model())) == []


def test_an_issue_names_its_rule_and_its_layer(make: Any) -> None:
    found = make.findings("BN202", ["layer1.0.bn2"], "running_var is -0.2")
    (issue,) = issues(make.checked(make.model(member="ema"), found, path="./models/a.pth"))
    said = "BN202 negative-variance: [ema] layer1.0.bn2: running_var is -0.2"
    assert issue["description"] == said
    assert issue["check_name"] == "BN202" and issue["severity"] == "critical"
    assert issue["location"] == {"path": "models/a.pth", "lines": {"begin": 1}}


@pytest.mark.parametrize(
    ("rule", "severity"), [("BN202", "critical"), ("BN301", "major"), ("BN207", "info")]
)
def test_severities(make: Any, rule: str, severity: str) -> None:
    checked = make.checked(make.model(), make.findings(rule, ["a"], "x"))
    assert [issue["severity"] for issue in issues(checked, show_info=True)] == [severity]


def test_what_is_suppressed_and_what_is_only_counted_are_no_issues(make: Any) -> None:
    (error,) = make.findings("BN202", ["a"], "x")
    infos = make.findings("BN207", ["a"], "x")
    assert issues(make.checked(make.model(), [replace(error, suppressed=True), *infos])) == []


def test_the_same_findings_in_many_places_are_told_apart(make: Any) -> None:
    found = make.findings("BN201", ["a", "a", "b", None], "x")
    files = [make.checked(make.model(member=m), found, path=p) for m in ("x", "y") for p in "ab"]
    assert len(issues(*files, Unreadable("a", "x"), Unreadable("b", "x"))) == 18


def test_unreadable_files_and_open_rules_are_issues(make: Any) -> None:
    missing = make.missing(["BN101"], "mode", "a state_dict holds none")
    checked = make.checked(make.model(), missing=missing, require=["BN101"])
    broken, unmet = issues(Unreadable("a.pt", "is empty"), checked)
    assert (broken["severity"], broken["description"]) == ("blocker", "unreadable: is empty")
    assert unmet["check_name"] == "BN101" and "is required" in unmet["description"]


def test_names_by_an_attacker_stay_names(hostile: Outcome) -> None:
    found = issues(*hostile.entries)
    assert len(found) == 35
    assert all(issue["description"].isprintable() for issue in found)
    assert max(len(issue["description"]) for issue in found) < 2000
