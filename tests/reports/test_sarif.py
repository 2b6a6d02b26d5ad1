"""SARIF keeps to its schema, and to what GitHub makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest

from bncheck.cli import main
from bncheck.report import Unreadable
from bncheck.reports.sarif import render
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Outcome

FIXTURES = Path(__file__).parents[2] / "fixtures"
SCHEMA = json.loads(Path(__file__).with_name("sarif-2.1.0.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())


def run_of(text: str) -> Any:
    """The single run of a valid log."""
    log = json.loads(text)
    VALIDATOR.validate(log)
    (run,) = log["runs"]
    return run


def results(*entries: Any, **style: Any) -> list[Any]:
    return list(run_of(render(Outcome(entries), Style(**style)))["results"])


def fingerprint(result: Any) -> str:
    (single,) = result["partialFingerprints"].items()
    assert single[0] == "primaryLocationLineHash"
    return str(single[1])


def test_the_schema_refuses_what_it_should() -> None:
    log = json.loads(render(Outcome(()), Style()))
    log["runs"][0]["results"] = [{"message": {"text": "x"}, "suppression": []}]
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(log)


def test_a_result_says_where_it_is_in_every_way_that_github_reads(make: Any) -> None:
    found = make.findings("BN202", ["layer1.0.bn2"], "running_var is -0.2")
    checked = make.checked(make.model(member="ema"), found, path="models/a.pth")
    (result,) = results(checked)
    assert result["ruleId"] == "BN202" and result["level"] == "error"
    assert result["message"]["text"] == "[ema] layer1.0.bn2: running_var is -0.2 Fix: fix it."
    (place,) = result["locations"]
    assert place["physicalLocation"] == {
        "artifactLocation": {"uri": "models/a.pth"},
        "region": {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1},
    }
    assert place["logicalLocations"] == [
        {"name": "layer1.0.bn2", "fullyQualifiedName": "ema/layer1.0.bn2", "kind": "module"}
    ]


def test_a_rule_brings_its_page(make: Any) -> None:
    found = [
        *make.findings("BN301", [None], "batches of 2"),
        *make.findings("BN202", ["a", "b"], "x"),
    ]
    run = run_of(render(Outcome((make.checked(make.model(), found),)), Style()))
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["BN202", "BN301"]
    assert [rules[r["ruleIndex"]]["id"] for r in run["results"]] == ["BN301", "BN202", "BN202"]
    assert rules[0]["help"]["markdown"] == make.rules["BN202"].page
    for rule in rules:  # what GitHub requires of each
        assert rule["shortDescription"]["text"] and rule["fullDescription"]["text"]
        assert rule["help"]["text"] and rule["defaultConfiguration"]["level"]


def test_levels_are_those_of_sarif_and_infos_come_when_asked_for(make: Any) -> None:
    found = [
        *make.findings("BN202", ["a"], "x"),
        *make.findings("BN301", ["a"], "x"),
        *make.findings("BN207", ["a"], "x"),
    ]
    checked = make.checked(make.model(), found)
    assert [each["level"] for each in results(checked)] == ["error", "warning"]
    assert [each["level"] for each in results(checked, show_info=True)][2] == "note"


def test_what_is_suppressed_is_left_out(make: Any) -> None:
    first, second = make.findings("BN202", ["a", "b"], "x")
    checked = make.checked(make.model(), [replace(first, suppressed=True), second])
    assert [each["locations"][0]["logicalLocations"][0]["name"] for each in results(checked)] == [
        "b"
    ]


def test_fingerprints_follow_the_place_and_not_the_numbers(make: Any) -> None:
    def of(*layers: str | None, member: str | None = None, path: str = "a.pt", text: str = "x"):
        found = make.findings("BN202", layers, text)
        return [
            *map(fingerprint, results(make.checked(make.model(member=member), found, path=path)))
        ]

    (one,) = of("bn1")
    assert of("bn1", text="min -0.3") == of("bn2", "bn1")[1:] == of("bn1", path="./a.pt") == [one]
    others = [*of("bn2"), *of(None), *of("bn1", member="ema"), *of("bn1", path="b.pt")]
    assert len({one, *others}) == 5


def test_two_findings_of_a_rule_at_one_place_are_told_apart(make: Any) -> None:
    found = make.findings("BN201", ["bn", "bn"], "{}")
    first, second = map(fingerprint, results(make.checked(make.model(), found)))
    assert first.partition(":")[0] == second.partition(":")[0]
    assert (first[-2:], second[-2:]) == (":1", ":2")


def test_an_unreadable_file_is_a_notification_and_no_result(make: Any) -> None:
    run = run_of(
        render(Outcome((Unreadable("a.pt", "is empty"), make.checked(make.model()))), Style())
    )
    (invocation,) = run["invocations"]
    (said,) = invocation["toolExecutionNotifications"]
    assert run["results"] == [] and invocation["executionSuccessful"] is False
    assert said["level"] == "error" and said["message"]["text"] == "is empty"
    assert said["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a.pt"


def test_what_stays_open_is_a_notification(make: Any) -> None:
    missing = make.missing(["BN101"], "mode", "a state_dict holds none", "check the .onnx")
    run = run_of(
        render(Outcome((make.checked(make.model(), missing=missing, require=["BN101"]),)), Style())
    )
    said = run["invocations"][0]["toolExecutionNotifications"]
    known = [each["id"] for each in run["tool"]["driver"]["notifications"]]
    assert [known[each["descriptor"]["index"]] for each in said] == ["required", "not-assessed"]
    assert [each["level"] for each in said] == ["error", "note"]
    assert "a state_dict holds none. Check the .onnx" in said[1]["message"]["text"]


def test_of_too_many_results_the_worst_are_kept(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bncheck.reports.sarif.MOST", 3)
    found = [
        *make.findings("BN301", ["a", "b", "c"], "x"),
        *make.findings("BN202", ["d", "e"], "x"),
    ]
    run = run_of(render(Outcome((make.checked(make.model(), found),)), Style()))
    assert [each["ruleId"] for each in run["results"]] == ["BN301", "BN202", "BN202"]
    (said,) = run["invocations"][0]["toolExecutionNotifications"]
    assert said["level"] == "warning" and said["message"]["text"] == "2 left out."


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("models/a b#c%?.pt", "models/a%20b%23c%25%3F.pt"),
        ("models/./x/../é.pt", "models/%C3%A9.pt"),
        ("models/[x](y).pt", "models/%5Bx%5D%28y%29.pt"),
        ("/elsewhere/a b.pt", "file:///elsewhere/a%20b.pt"),
        ("../a.pt", None),
    ],
)
def test_paths_are_uris_relative_to_the_working_folder(
    make: Any, path: str, uri: str | None
) -> None:
    found = make.findings("BN202", ["a"], "x")
    (result,) = results(make.checked(make.model(), found, path=path))
    said = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert said == (uri or (Path.cwd().parent / "a.pt").as_uri())


def test_names_by_an_attacker_stay_names(hostile: Outcome) -> None:
    run = run_of(render(hostile, Style()))
    prints = [fingerprint(each) for each in run["results"]]
    assert len(set(prints)) == len(prints) == 34
    for each in run["results"]:
        text = each["message"]["text"]
        assert text.isprintable() and "[x](" not in text.replace("\\[x](", "")
        uri = each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert unquote(uri) == "models/a b#c%?[x](y).pt"


def test_the_log_on_every_fixture_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    folders = sorted(str(folder) for folder in FIXTURES.glob("BN[24]*"))
    main(["--format", "sarif", "--show", "info", "--fail-on", "never", *folders])
    run = run_of(capsys.readouterr().out)
    assert len({fingerprint(each) for each in run["results"]}) == len(run["results"]) > 100
