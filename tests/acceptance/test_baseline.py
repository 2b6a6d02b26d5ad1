"""Known findings: told by identity, found from any checkout, and reported when they are over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bncheck.acceptance import baseline
from bncheck.acceptance.baseline import Baseline
from bncheck.engine import Assessment
from bncheck.errors import ConfigurationError
from bncheck.facts import Unknown
from bncheck.finding import Finding, Level, NotAssessed
from bncheck.model import Model
from bncheck.report import ModelReport

UNKNOWN = Unknown("mode", "none here")


def finding(rule: str, layer: str | None, level: Level = Level.ERROR) -> Finding:
    return Finding(rule, "a-name", level, layer, "Wrong by 0.1.", {}, "Mend it.")


def report(
    path: Path,
    *findings: Finding,
    member: str | None = None,
    assessed: Iterable[str] = ("BN101", "BN202"),
    missing: Iterable[NotAssessed] = (),
) -> ModelReport:
    model = Model("torch-zip", "module", (), frozenset(), member)
    result = Assessment("deploy", "", findings, tuple(assessed), tuple(missing))
    return ModelReport(str(path), model, result)


def written(file: Path, *reports: ModelReport) -> Baseline:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(baseline.text(reports, file.parent, lambda f: f.level is not Level.INFO))
    return baseline.read(file)


def known(held: Baseline, model: ModelReport) -> list[bool]:
    return [f.suppressed for f in held.applied(model).assessment.findings]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with two files."""
    folder = tmp_path / "project" / "models"
    folder.mkdir(parents=True)
    for name in ("a.pt", "b.pt"):
        (folder / name).write_bytes(b"")
    return folder


def test_a_baseline_is_short_and_sorted(models: Path) -> None:
    file = models.parent / "known.json"
    written(
        file,
        report(models / "b.pt", finding("BN202", None), member="ema"),
        report(
            models / "a.pt",
            finding("BN202", "bn1"),
            finding("BN101", "bn2"),
            finding("BN101", "bn1"),
            finding("BN101", "bn1"),
            finding("BN207", "bn1", Level.INFO),
        ),
        report(models / "c.pt"),
    )
    assert json.loads(file.read_text()) == {
        "bncheck_baseline": 1,
        "models": [
            {
                "path": "models/a.pt",
                "member": None,
                "findings": {"BN101": ["bn2", "bn1"], "BN202": ["bn1"]},
            },
            {"path": "models/b.pt", "member": "ema", "findings": {"BN202": [None]}},
        ],
    }


@pytest.mark.parametrize(
    ("rule", "layer", "name", "member", "same"),
    [
        ("BN202", "bn1", "a.pt", None, True),
        ("BN202", "bn2", "a.pt", None, False),
        ("BN202", None, "a.pt", None, False),
        ("BN101", "bn1", "a.pt", None, False),
        ("BN202", "bn1", "b.pt", None, False),  # the same layer of another file
        ("BN202", "bn1", "a.pt", "ema", False),
    ],
)
def test_identity(
    models: Path, rule: str, layer: str | None, name: str, member: str | None, same: bool
) -> None:
    held = written(models / "known.json", report(models / "a.pt", finding("BN202", "bn1")))
    assert known(held, report(models / name, finding(rule, layer), member=member)) == [same]


def test_one_mended_and_one_new_is_a_failure(models: Path) -> None:
    """What counts would hide."""
    held = written(models / "known.json", report(models / "a.pt", finding("BN202", "bn1")))
    assert known(held, report(models / "a.pt", finding("BN202", "bn2"))) == [False]
    assert [each.known.layer for each in held.kept().stale] == ["bn1"]


def test_the_numbers_of_a_finding_may_change(models: Path) -> None:
    held = written(models / "known.json", report(models / "a.pt", finding("BN202", "bn1")))
    other = Finding("BN202", "new-name", Level.WARNING, "bn1", "Wrong by 7.", {"x": 1}, "Other.")
    assert known(held, report(models / "a.pt", other)) == [True]


def test_it_holds_in_another_checkout(models: Path, tmp_path: Path) -> None:
    written(models.parent / "ci" / "known.json", report(models / "a.pt", finding("BN202", "bn1")))
    shutil.copytree(models.parent, tmp_path / "elsewhere")
    held = baseline.read(tmp_path / "elsewhere" / "ci" / "known.json")
    moved = report(tmp_path / "elsewhere" / "models" / "a.pt", finding("BN202", "bn1"))
    assert known(held, moved) == [True]


def test_paths_are_the_same_however_they_are_written(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = written(models / "known.json", report(models / "a.pt", finding("BN202", "bn1")))
    monkeypatch.chdir(models)
    for path in ("a.pt", "./a.pt", "../models/a.pt"):
        assert known(held, report(Path(path), finding("BN202", "bn1"))) == [True]


@pytest.mark.parametrize(
    ("again", "stale"),
    [
        ({"findings": [finding("BN202", "bn1")]}, False),
        ({}, True),
        ({"assessed": ["BN101"]}, False),
        ({"missing": [NotAssessed("BN202", "bn1", UNKNOWN)]}, False),
        ({"missing": [NotAssessed("BN202", "bn2", UNKNOWN)]}, True),
        ({"member": "ema"}, True),  # the model of before is no longer in the file
    ],
)
def test_an_entry_is_stale_where_the_run_could_have_found_it(
    models: Path, again: dict[str, Any], stale: bool
) -> None:
    held = written(models / "known.json", report(models / "a.pt", finding("BN202", "bn1")))
    held.applied(report(models / "a.pt", *again.pop("findings", ()), **again))
    assert bool(held.kept().stale) is stale
    assert held.kept().entries == 1


def test_files_that_a_run_did_not_look_at_are_not_judged_but_for_lost_ones(models: Path) -> None:
    file = models / "known.json"
    written(
        file,
        *(report(models / name, finding("BN202", "bn1")) for name in ("a.pt", "b.pt")),
        report(models / "gone.pt", finding("BN101", None), finding("BN202", "bn1")),
    )
    held = baseline.read(file)
    held.unreadable(str(models / "b.pt"))
    kept = held.kept()
    assert [(each.place.path, each.known) for each in kept.stale] == [
        ("gone.pt", ("BN101", None)),
        ("gone.pt", ("BN202", "bn1")),
    ]
    assert (kept.entries, kept.used) == (4, 0)


def test_with_one_model_picked_the_others_of_its_file_are_not_judged(models: Path) -> None:
    held = written(
        models / "known.json", report(models / "a.pt", finding("BN202", "bn1"), member="model")
    )
    held.applied(report(models / "a.pt", member="ema"))
    assert not held.kept(whole_files=False).stale
    assert held.kept(whole_files=True).stale


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no valid JSON"),
        ("[" * 100_000, "is no valid JSON"),
        ("{}", "is no baseline of bncheck"),
        ("[1]", "is no baseline of bncheck"),
        ('{"bncheck_baseline": 2, "models": []}', "is of version 2, not 1; write it again with"),
        ('{"bncheck_baseline": 1}', "is damaged"),
        ('{"bncheck_baseline": 1, "models": 7}', "is damaged"),
        ('{"bncheck_baseline": 1, "models": [{"path": 1}]}', "is damaged"),
        (
            '{"bncheck_baseline": 1, "models": [{"path": 1, "member": null, "findings": {}}]}',
            "is damaged",
        ),
        (
            '{"bncheck_baseline": 1, "models": '
            '[{"path": "a", "member": null, "findings": {"BN1": [[]]}}]}',
            "is damaged",
        ),
        ("\xff", "is no valid JSON"),
    ],
)
def test_what_is_no_baseline_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "known.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError) as raised:
        baseline.read(file)
    assert str(raised.value).startswith(f"baseline {file}: {said}")
    assert "\n" not in str(raised.value)


def test_a_folder_is_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no regular file"):
        baseline.read(tmp_path)


def test_a_missing_baseline_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist; --write-baseline makes it"):
        baseline.read(tmp_path / "known.json")
