"""JUnit's XML: a suite for each model, a case for each rule, and for each layer where it found
something.

A case fails where the run does, from the level of ``--fail-on`` on; what is found below that level
is the output of a case that passes. What is suppressed or could not be assessed is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from bncheck.finding import Finding, Level, NotAssessed
from bncheck.report import Unreadable
from bncheck.reports.grouping import gaps, together
from bncheck.reports.identity import relative
from bncheck.reports.layout import layer_name, printable, shortened
from bncheck.reports.unassessed import sentence
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Checked, Outcome


def render(outcome: Outcome, style: Style) -> str:
    """The run as one ``testsuites``."""
    run: Any = JUnitXml("bncheck")
    for entry in outcome.entries:
        if isinstance(entry, Checked):
            run.add_testsuite(_suite(_named(entry), _model_cases(entry, style)))
        elif isinstance(entry, Unreadable):
            run.add_testsuite(_suite(relative(entry.path), [_broken(entry)]))
    run.update_statistics()
    return f"{run.tostring().decode()}\n"


def _named(checked: Checked) -> str:
    member = checked.report.model.member
    return relative(checked.report.path) + (f" [{member}]" if member else "")


def _suite(name: str, cases: Iterator[TestCase] | list[TestCase]) -> TestSuite:
    suite = TestSuite(printable(name))
    for case in cases:
        case.classname = suite.name
        suite.add_testcase(case)
    return suite


def _broken(file: Unreadable) -> TestCase:
    case = TestCase("readable")
    case.result = [Error(printable(file.error), "unreadable")]
    return case


def _model_cases(checked: Checked, style: Style) -> Iterator[TestCase]:
    assessment = checked.report.assessment
    findings = {same[0].rule: same for same in together(assessment.findings, lambda f: f.rule)}
    missing = {same[0].rule: same for same in together(assessment.not_assessed, lambda n: n.rule)}
    unmet = {each.rule for each in checked.unmet}
    for rule in checked.plan.rules:
        name = f"{rule.id} {rule.name}"
        here, open_here = findings.get(rule.id, []), missing.get(rule.id, [])
        yield from _found(name, here, style)
        yield from _open(name, open_here, required=rule.id in unmet)
        if not here and not open_here:
            yield TestCase(name)


def _found(name: str, findings: Sequence[Finding], style: Style) -> Iterator[TestCase]:
    for same in together(findings, lambda f: (f.layer, f.suppressed)):
        layer = same[0].layer
        case = TestCase(name if layer is None else f"{name} {shortened(layer_name(layer))}")
        if same[0].suppressed:
            case.result = [Skipped(printable(f"suppressed: {same[0].suppression}".rstrip(": ")))]
        elif failing := [finding for finding in same if _fails(finding, style)]:
            case.result = [_failure(failing)]
        elif listed := [finding for finding in same if style.is_listed(finding)]:
            case.system_out = "\n".join(f"{f.level}: {_text(f)}" for f in listed)
        yield case


def _fails(finding: Finding, style: Style) -> bool:
    return style.fail_on != "never" and finding.level.rank >= Level(style.fail_on).rank


def _failure(findings: Sequence[Finding]) -> Failure:
    failure = Failure(printable(findings[0].message), findings[0].level.value)
    failure.text = "\n".join(map(_text, findings))
    return failure


def _text(finding: Finding) -> str:
    fix = f"\nFix: {printable(finding.fix)}" if finding.fix else ""
    return printable(finding.message) + fix


def _open(name: str, missing: Sequence[NotAssessed], required: bool) -> Iterator[TestCase]:
    for gap in gaps(missing):
        case = TestCase(f"{name} ({', '.join(gap.facts)} not known)")
        said = printable(sentence(gap))
        case.result = [Failure(f"required: {said}", "required") if required else Skipped(said)]
        yield case
