"""bncheck check with suppressions and a baseline: what counts, and what is said of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ACCEPTED = "[[ignore]]\nrules = ['BN202']\nreason = 'the vendor knows'\n"


def configure(text: str) -> None:
    Path("bncheck.toml").write_text(text, "utf-8")


def test_a_suppressed_finding_is_told_but_does_not_fail(bncheck: Any) -> None:
    bncheck.write(model_pt="negative")
    configure(ACCEPTED)
    ran = bncheck("model.pt")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("model.pt  ok")
    assert "nothing else wrong" in ran.out
    assert "  suppressed: 1 negative-variance (--show info)\n" in ran.out
    assert (
        "  suppressed: BN202 negative-variance  bn1\n    the vendor knows (bncheck.toml)\n"
        in bncheck("model.pt --show info").out
    )


def test_json_marks_and_counts_it(bncheck: Any) -> None:
    bncheck.write(model_pt="negative")
    configure(ACCEPTED)
    report = json.loads(bncheck("model.pt --format json").out)
    (file,) = report["files"]
    (found,) = (each for each in file["findings"] if each["rule"] == "BN202")
    assert (found["suppressed"], found["suppression"]) == (True, "the vendor knows (bncheck.toml)")
    assert (file["verdict"], report["summary"]["suppressed"]) == ("ok", 1)
    assert report["summary"]["errors"] == 0
    (use,) = report["suppressions"]
    assert (use["state"], use["findings"], use["reason"]) == ("used", 1, "the vendor knows")


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ("", 0, ""),
        (
            "expires = 2000-01-01",
            1,
            "bncheck.toml: ignore 1 (BN202) no longer suppresses anything: it expired on "
            "2000-01-01\n",
        ),
        (
            "layers = 'head.*'",
            1,
            "bncheck.toml: ignore 1 (BN202) is unused: nothing that it would suppress was found\n",
        ),
        ("files = 'other/**'", 1, ""),
    ],
)
def test_what_is_of_no_use_is_said(bncheck: Any, more: str, code: int, said: str) -> None:
    bncheck.write(m__model_pt="negative")
    configure(ACCEPTED + more)
    ran = bncheck("m")
    assert ran.code == code
    assert ran.err == (f"bncheck: {said}" if said else "")


def test_a_suppressed_cause_still_silences_its_consequences(bncheck: Any) -> None:
    """Batch statistics are accepted here; that the mode shows is no news."""
    bncheck.write(model_pt="untracked")
    configure("[[ignore]]\nrules = ['BN104']\nreason = 'style transfer'")
    ran = bncheck("model.pt --select BN101,BN104 --format json")
    assert [f["rule"] for f in json.loads(ran.out)["files"][0]["findings"]] == ["BN104"]
    assert ran.code == 0
    assert bncheck("model.pt --select BN101").code == 1


# baseline


def test_only_what_is_new_fails(bncheck: Any) -> None:
    bncheck.write(m__a_pt="negative", m__b_pt="healthy")
    ran = bncheck("m --write-baseline known.json")
    assert ran.code == 0
    assert ran.err == "bncheck: known.json: written, 1 finding\n"
    assert ran.out.endswith("2 files: 2 ok, 1 suppressed\n")
    assert bncheck("m --baseline known.json").code == 0
    bncheck.write(m__b_pt="negative")
    ran = bncheck("m --baseline known.json")
    assert ran.code == 1
    assert "\n2 files: 1 ok, 1 error in 1 layer, 1 suppressed (exit 1)." in ran.out


def test_a_configuration_may_name_the_baseline(bncheck: Any) -> None:
    bncheck.write(m__a_pt="negative")
    assert bncheck("m --write-baseline known.json").code == 0
    configure("baseline = 'known.json'")
    assert bncheck("m").code == 0
    assert bncheck("m --write-baseline known.json").code == 0  # all of it, not what is left
    assert "BN202" in Path("known.json").read_text()
    configure("baseline = 'missing.json'")
    ran = bncheck("m")
    assert ran.code == 2
    assert "missing.json: does not exist; --write-baseline makes it" in ran.err


def test_each_project_has_its_own_baseline(bncheck: Any) -> None:
    """As it has its own configuration, wherever bncheck is started."""
    bncheck.write(x__a_pt="negative", y__a_pt="negative", y__b_pt="training")
    for folder in ("x", "y"):
        bncheck(f"{folder} --write-baseline {folder}/known.json --ignore BN1")
        Path(folder, "bncheck.toml").write_text("baseline = 'known.json'")
    ran = bncheck("x y --format json")
    report = json.loads(ran.out)
    assert ran.code == 1
    assert [file["verdict"] for file in report["files"]] == ["ok", "ok", "findings"]
    assert [kept["entries"] for kept in report["baselines"]] == [1, 1]


def test_stale_entries_are_said_and_do_not_fail(bncheck: Any) -> None:
    bncheck.write(m__a_pt="training", m__b_pt="several", m__c_pt="healthy")
    bncheck("m --write-baseline known.json")
    bncheck.write(m__a_pt="healthy", m__b_pt="healthy")
    ran = bncheck("m --baseline known.json")
    assert ran.code == 0
    assert ran.err == (
        "bncheck: baseline known.json: stale entries, 3 of 3: m/a.pt BN101 bn1, "
        "m/a.pt BN101 bn2, m/b.pt [model] BN202 bn1; write it again with --write-baseline\n"
    )
    report = json.loads(bncheck("m --baseline known.json --format json").out)
    (kept,) = report["baselines"]
    assert (kept["path"], kept["entries"], kept["used"]) == ("known.json", 3, 0)
    assert kept["stale"][2] == {
        "path": "m/b.pt",
        "member": "model",
        "rule": "BN202",
        "layer": "bn1",
    }


def test_infos_are_known_where_they_fail_a_run(bncheck: Any) -> None:
    bncheck.write(model_pt="dead")
    assert "0 findings" in bncheck("model.pt --write-baseline known.json").err
    assert "1 finding\n" in bncheck("model.pt --write-baseline known.json --fail-on info").err
    assert bncheck("model.pt --baseline known.json --fail-on info").code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--baseline missing.json", "baseline missing.json: does not exist"),
        ("--baseline other.json", "baseline other.json: is no baseline of bncheck"),
        ("--write-baseline other.json", "other.json: is not replaced: baseline other.json: is no"),
        ("--write-baseline model.pt", "model.pt: is not replaced"),
        ("--write-baseline no/such/known.json", "cannot be written"),
        ("--baseline a.json --write-baseline b.json", "leave --baseline out"),
        ("broken.pt --write-baseline new.json", "nothing is written, 1 file was unreadable"),
    ],
)
def test_a_baseline_that_cannot_be_used_is_one_line_and_exit_2(
    bncheck: Any, options: str, said: str
) -> None:
    bncheck.write(model_pt="negative", broken_pt="broken", other_json='{"results": []}')
    ran = bncheck(f"model.pt {options}")
    assert ran.code == 2
    assert said in ran.err.splitlines()[-1]
    assert not Path("new.json").exists()
    assert Path("other.json").read_text() == '{"results": []}'


def test_suppressed_findings_are_not_written(bncheck: Any) -> None:
    bncheck.write(model_pt="negative")
    configure(ACCEPTED)
    assert "0 findings" in bncheck("model.pt --write-baseline known.json").err
