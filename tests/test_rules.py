"""Every rule against its fixtures: the first word of a file's name says what must come of it."""

from __future__ import annotations

from pathlib import Path

import pytest

import bncheck
from bncheck import catalogue
from bncheck.finding import Level
from bncheck.report import Report

FIXTURES = Path(__file__).parents[1] / "fixtures"
SIDE_FILES = {"training_args.bin"}
RULES = tuple(catalogue.load().values())


def folder(rule: catalogue.Rule) -> Path:
    return FIXTURES / f"{rule.id}-{rule.name}"


def files(rule: catalogue.Rule) -> list[Path]:
    found = sorted(path for path in folder(rule).rglob("*") if path.is_file())
    return [path for path in found if path.name not in SIDE_FILES]


def expectation(path: Path) -> str:
    """The first word of the file, or of the folder that it needs for itself."""
    return path.relative_to(FIXTURES).parts[1].partition("-")[0].partition(".")[0]


def judged(rule: catalogue.Rule, path: Path) -> Report:
    """By the rules that run by default; by all of them where this one does not."""
    select = None if rule.default else ["ALL"]
    return bncheck.check(path, select=select, preview=rule.in_preview)


CASES = [
    pytest.param(rule, path, id=str(path.relative_to(FIXTURES)))
    for rule in RULES
    for path in files(rule)
]


@pytest.mark.parametrize(("rule", "path"), CASES)
def test_rule_judges_its_fixture(rule: catalogue.Rule, path: Path) -> None:
    report = judged(rule, path)
    levels = {finding.level.value for finding in report.findings if finding.rule == rule.id}
    open_ends = [each for each in report.not_assessed if each.rule == rule.id]
    match expectation(path):
        case "good":
            assert not levels
            assert not open_ends
        case "unknown":
            assert not levels
            assert open_ends
            assert all(each.reason for each in open_ends)
        case level:
            assert levels == {level}


@pytest.mark.parametrize(("rule", "path"), CASES)
def test_no_false_alarm_on_a_healthy_model(rule: catalogue.Rule, path: Path) -> None:
    if expectation(path) != "good":
        pytest.skip("not a healthy model")
    alarms = bncheck.check(path, preview=rule.in_preview).at_or_above(Level.WARNING)
    assert not alarms, [f"{alarm.rule} {alarm.layer}: {alarm.message}" for alarm in alarms]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_has_a_bad_and_a_good_fixture(rule: catalogue.Rule) -> None:
    words = {expectation(path) for path in files(rule)}
    assert words & {"error", "warning", "info"}
    assert "good" in words


def test_every_fixture_belongs_to_a_rule() -> None:
    known = {folder(rule) for rule in RULES}
    assert {path for path in FIXTURES.glob("BN*") if path.is_dir()} == known


def test_a_finding_names_what_a_person_needs() -> None:
    for rule in RULES:
        for path in files(rule):
            for finding in bncheck.check(path, preview=rule.in_preview).findings:
                assert finding.message.endswith((".", "?", "!"))
                assert finding.fix
                assert finding.rule in catalogue.load()
