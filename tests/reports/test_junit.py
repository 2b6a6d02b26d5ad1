"""JUnit's XML as the standard library's parser reads it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from bncheck.report import Unreadable
from bncheck.running.outcome import Outcome

pytest.importorskip("junitparser")
from bncheck.reports.junit import render
from bncheck.reports.verdict import Style

OUTCOMES = ("failure", "error", "skipped")


def suites(*entries: Any, **style: Any) -> list[ElementTree.Element]:
    """The suites of a run, whose counts are those of their cases."""
    chosen = Style(**style)
    root = ElementTree.fromstring(render(Outcome(entries, chosen.fail_on), chosen))
    assert root.tag == "testsuites"
    for holder in (root, *root):
        counts = Counter(each.tag for each in holder.iter())
        assert int(holder.attrib["tests"]) == counts["testcase"]
        assert int(holder.attrib["failures"]) == counts["failure"]
        assert int(holder.attrib["errors"]) == counts["error"]
        assert int(holder.attrib["skipped"]) == counts["skipped"]
    return list(root)


def cases(suite: ElementTree.Element) -> dict[str, str]:
    """What became of each case."""
    names = [case.attrib["name"] for case in suite]
    assert len(set(names)) == len(names)
    assert {case.attrib["classname"] for case in suite} == {suite.attrib["name"]}
    return {case.attrib["name"]: next((e.tag for e in case), "passed") for case in suite}


def test_a_healthy_model_passes_every_rule(make: Any) -> None:
    (suite,) = suites(make.checked(make.model(member="ema"), path="./a/b.pth"))
    assert suite.attrib["name"] == "a/b.pth [ema]"
    assert cases(suite) == {f"{r.id} {r.name}": "passed" for r in make.rules.values()}


def test_a_case_for_each_layer_with_a_finding(make: Any) -> None:
    found = [
        *make.findings("BN202", ["a", "b"], "running_var is -{}"),
        *make.findings("BN201", ["a", "a"], "{}"),
        *make.findings("BN301", [None], "batches of 2"),
    ]
    (suite,) = suites(make.checked(make.model(), found), fail_on="warning")
    seen = {name: what for name, what in cases(suite).items() if what != "passed"}
    assert seen == {
        "BN202 negative-variance a": "failure",
        "BN202 negative-variance b": "failure",
        "BN201 non-finite-statistics a": "failure",
        "BN301 tiny-batch": "failure",
    }
    failure = suite.find("testcase[@name='BN202 negative-variance b']/failure")
    assert failure is not None and failure.attrib == {
        "message": "running_var is -1",
        "type": "error",
    }
    assert failure.text == "running_var is -1\nFix: fix it."


@pytest.mark.parametrize(
    ("fail_on", "failing"), [("error", 1), ("warning", 2), ("info", 3), ("never", 0)]
)
def test_a_case_fails_where_the_run_does(make: Any, fail_on: str, failing: int) -> None:
    rules = ("BN202", "BN301", "BN207")
    found = [each for rule in rules for each in make.findings(rule, ["a"], "x")]
    (suite,) = suites(make.checked(make.model(), found), fail_on=fail_on)
    assert [*cases(suite).values()].count("failure") == failing


def test_what_is_below_the_level_is_the_output_of_a_case_that_passes(make: Any) -> None:
    found = make.findings("BN301", ["a"], "batches of 2")
    (suite,) = suites(make.checked(make.model(), found))
    said = suite.findtext("testcase[@name='BN301 tiny-batch a']/system-out")
    assert said == "warning: batches of 2\nFix: fix it."


def test_what_is_suppressed_is_skipped_with_the_reason(make: Any) -> None:
    (finding,) = make.findings("BN202", ["a"], "x")
    accepted = replace(finding, suppressed=True, suppression="frozen backbone")
    (suite,) = suites(make.checked(make.model(), [accepted]))
    skipped = suite.find("testcase[@name='BN202 negative-variance a']/skipped")
    assert skipped is not None and skipped.attrib["message"] == "suppressed: frozen backbone"


@pytest.mark.parametrize(("require", "what"), [([], "skipped"), (["BN101"], "failure")])
def test_what_is_not_assessed_is_skipped_unless_it_is_required(
    make: Any, require: list[str], what: str
) -> None:
    missing = make.missing(["BN101", "BN103"], "mode", "a state_dict holds none")
    (suite,) = suites(make.checked(make.model(), missing=missing, require=require))
    seen = cases(suite)
    assert seen["BN101 training-mode (mode not known)"] == what
    assert seen["BN103 mixed-mode (mode not known)"] == "skipped"


def test_an_unreadable_file_is_an_error(make: Any) -> None:
    broken, fine = suites(Unreadable("a.pt", "is empty"), make.checked(make.model()))
    assert cases(broken) == {"readable": "error"} and set(cases(fine).values()) == {"passed"}


def test_names_by_an_attacker_stay_names(hostile: Outcome) -> None:
    first, second, broken, fine = suites(*hostile.entries)
    assert (
        [*cases(first).values()].count("failure")
        == 15
        == [*cases(second).values()].count("failure")
    )
    assert first.attrib["name"] == "models/a b#c%?[x](y).pt"
    assert broken.attrib["name"].isprintable() and fine.attrib["failures"] == "0"
    assert {each.tag for suite in (first, second, broken) for each in suite.iter()} <= {
        "testsuite", "testcase", "failure", "error", "skipped", "system-out"
    }  # fmt: skip
