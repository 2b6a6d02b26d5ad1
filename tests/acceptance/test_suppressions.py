"""What a configuration accepts: which findings, until when, and whether it is still needed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bncheck.acceptance.suppressions import Ledger
from bncheck.configuration.files import read
from bncheck.configuration.settings import Settings
from bncheck.engine import Assessment
from bncheck.errors import ConfigurationError
from bncheck.finding import Finding, Level
from bncheck.model import Model
from bncheck.report import ModelReport

TODAY = date(2030, 6, 15)
DEAD = {"rules": ["BN207"], "reason": "frozen backbone"}


def configured(folder: Path, text: str) -> Settings:
    (folder / "bncheck.toml").write_text(text, "utf-8")
    return read(folder / "bncheck.toml")


def entry(folder: Path, **keys: Any) -> Settings:
    """A configuration with one table under ignore."""
    lines = [f"{key} = {_toml(value)}" for key, value in {**DEAD, **keys}.items()]
    return configured(folder, "[[ignore]]\n" + "\n".join(lines))


def _toml(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else repr(value)


def finding(rule: str = "BN207", layer: str | None = "layer1.bn1") -> Finding:
    return Finding(rule, "a-name", Level.ERROR, layer, "Wrong.", {}, "Mend it.")


def report(path: Path, *findings: Finding, assessed: Iterable[str] = ("BN207",)) -> ModelReport:
    model = Model("onnx", "graph", (), frozenset())
    return ModelReport(str(path), model, Assessment("deploy", "", findings, tuple(assessed), ()))


def applied(ledger: Ledger, settings: Settings, *reports: ModelReport) -> list[list[str]]:
    """The reasons with which the findings of each report are suppressed, "" where they are not."""
    assert settings.file
    marked = [ledger.applied(each, settings.suppressions, settings.file) for each in reports]
    return [[f.suppression for f in each.assessment.findings] for each in marked]


def test_strings_leave_rules_out_and_tables_suppress(tmp_path: Path) -> None:
    text = 'ignore = ["BN7", {rules = ["BN2", "tiny-batch"], reason = "known"}]'
    settings = configured(tmp_path, text)
    assert settings.ignore == ("BN7",)
    (suppression,) = settings.suppressions
    assert suppression.words == ("BN2", "tiny-batch")
    assert {"BN201", "BN301"} < suppression.rules


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ignore = 'BN1'", "ignore: must be a list of strings and tables, not 'BN1'"),
        ("[[ignore]]\nrules = ['BN1']", "ignore: table 1: reason is missing: say why"),
        ("[[ignore]]\nreason = 'x'", "ignore: table 1: rules is missing: which rules"),
        ("[[ignore]]\nrules = []\nreason = 'x'", "rules: must hold something, or be left out"),
        ("[[ignore]]\nrules = ['BN9']\nreason = 'x'", "table 1: rules: unknown rule 'BN9'"),
        ("[[ignore]]\nrules = ['BN1']\nreason = ' '", "reason: must be a string, and not empty"),
        ("[[ignore]]\nrules = ['BN1']\nreasn = 'x'", "unknown key 'reasn'; did you mean 'reason'?"),
        (
            "[[ignore]]\nrules = ['BN1']\nreason = 'x'\n"
            "[[ignore]]\nrules = ['BN1']\nreason = 'x'\nexpires = '2030-01-01'",
            "table 2: expires: must be a date such as 2030-12-31, not in quotes, not '2030-01-01'",
        ),
        (
            "[[ignore]]\nrules = ['BN1']\nreason = 'x'\nexpires = 2030-01-01T00:00:00",
            "expires: must be a date",
        ),
        (
            "[[ignore]]\nrules = ['BN1']\nreason = 'x'\nfiles = '../other/*.pt'",
            "files: '../other/*.pt' leads out of the folder of this file",
        ),
        ("assume-eval = ['/models/*.pt']", "assume-eval: '/models/*.pt' leads out of the folder"),
    ],
)
def test_a_mistake_is_said_with_the_number_of_the_table(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        configured(tmp_path, text)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("keys", "rule", "layer", "holds"),
    [
        ({}, "BN207", "layer1.bn1", True),
        ({}, "BN202", "layer1.bn1", False),
        ({"rules": "BN2"}, "BN202", "layer1.bn1", True),
        ({"layers": "layer1.*"}, "BN207", "layer1.bn1", True),
        ({"layers": ["layer2.*", "*.bn1"]}, "BN207", "layer1.bn1", True),
        ({"layers": "layer1"}, "BN207", "layer1.bn1", False),
        ({"layers": "LAYER1.*"}, "BN207", "layer1.bn1", False),
        ({"layers": "*"}, "BN207", None, False),  # a model-wide finding is of no layer
        ({}, "BN207", None, True),
        ({"files": "models/*.onnx"}, "BN207", "layer1.bn1", True),
        ({"files": ["other", "models"]}, "BN207", "layer1.bn1", True),
        ({"files": "*.onnx"}, "BN207", "layer1.bn1", False),
        ({"expires": date(2030, 6, 15)}, "BN207", "layer1.bn1", True),  # its last day
        ({"expires": date(2030, 6, 14)}, "BN207", "layer1.bn1", False),
    ],
)
def test_which_finding_is_meant(
    tmp_path: Path, keys: dict[str, Any], rule: str, layer: str | None, holds: bool
) -> None:
    model = report(tmp_path / "models" / "a.onnx", finding(rule, layer))
    reasons = applied(Ledger(TODAY), entry(tmp_path, **keys), model)
    assert reasons == [["frozen backbone (bncheck.toml)" if holds else ""]]


def test_a_suppressed_finding_counts_apart_and_is_no_verdict(tmp_path: Path) -> None:
    settings = entry(tmp_path)
    assert settings.file
    before = report(tmp_path / "a.onnx", finding())
    after = Ledger(TODAY).applied(before, settings.suppressions, settings.file)
    assert (before.verdict, after.verdict) == ("findings", "no-batchnorm")
    assert len(after.assessment.findings) == 1


@pytest.mark.parametrize(
    ("keys", "findings", "assessed", "searched", "state"),
    [
        ({}, [finding()], ["BN207"], True, "used"),
        ({}, [finding()], ["BN207"], False, "used"),
        ({}, [], ["BN207"], True, "unused"),
        ({}, [], ["BN201"], True, "open"),  # the rule was not asked
        ({}, [], ["BN207"], False, "open"),  # it may be for a file that was not named
        ({"files": "models/*.onnx"}, [], ["BN207"], False, "open"),
        ({"files": "models/a.onnx"}, [], ["BN207"], False, "unused"),
        ({"files": "other"}, [], ["BN207"], True, "open"),
        ({"layers": "x"}, [finding()], ["BN207"], True, "unused"),
        ({"expires": date(2030, 1, 1)}, [finding()], ["BN207"], True, "expired"),
        ({"expires": date(2031, 1, 1)}, [finding()], ["BN207"], True, "used"),
    ],
)
def test_what_came_of_an_entry(
    tmp_path: Path,
    keys: dict[str, Any],
    findings: list[Finding],
    assessed: list[str],
    searched: bool,
    state: str,
) -> None:
    path = tmp_path / "models" / "a.onnx"
    path.parent.mkdir()
    path.write_bytes(b"")
    ledger = Ledger(TODAY, searched)
    applied(ledger, entry(tmp_path, **keys), report(path, *findings, assessed=assessed))
    (use,) = ledger.uses()
    assert use.state == state


def test_an_unreadable_file_may_be_the_one_that_an_entry_is_for(tmp_path: Path) -> None:
    settings = entry(tmp_path)
    assert settings.file
    ledger = Ledger(TODAY)
    ledger.unreadable(tmp_path / "b.onnx", settings.suppressions, settings.file)
    applied(ledger, settings, report(tmp_path / "a.onnx"))
    assert ledger.uses()[0].state == "open"


def test_entries_that_overlap_are_all_of_use_and_the_first_gives_the_reason(tmp_path: Path) -> None:
    settings = configured(
        tmp_path,
        "[[ignore]]\nrules = ['BN2']\nreason = 'first'\n"
        "[[ignore]]\nrules = ['BN207']\nreason = 'second'\n",
    )
    ledger = Ledger(TODAY)
    reasons = applied(ledger, settings, report(tmp_path / "a.onnx", finding()))
    assert reasons == [["first (bncheck.toml)"]]
    assert [use.state for use in ledger.uses()] == ["used", "used"]
