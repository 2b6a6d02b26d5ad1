"""bncheck check: what it looks at, where it writes, and what it says on stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    "line",
    [
        "model.pt",
        "check model.pt",
        "--format text model.pt",
        "check --format text model.pt",
        "model.pt --format=text",
        "--profile auto -- model.pt",
        "./model.pt",
    ],
)
def test_the_command_may_be_left_out(bncheck: Any, line: str) -> None:
    bncheck.write(model_pt="negative")
    ran = bncheck(line)
    assert ran.code == 1
    assert ran.out.startswith("model.pt  pickled module, 1 BatchNorm\n  error BN202")


def test_command_names_win_over_files(bncheck: Any) -> None:
    bncheck.write(rules__model_pt="healthy")
    assert "training-mode" in bncheck("rules").out
    assert bncheck("./rules").out.startswith(str(Path("rules/model.pt")))


def test_a_misspelt_command_is_no_missing_file(bncheck: Any) -> None:
    ran = bncheck("inspct model.pt")
    assert ran.code == 2
    assert "no file and no command 'inspct'; did you mean 'inspect'?" in ran.err


def test_one_bad_file_hides_no_other(bncheck: Any) -> None:
    bncheck.write(a_pt="negative", b_pt="broken", c_pt="bug", d_pt="text", e_pt="healthy")
    ran = bncheck("a.pt b.pt c.pt d.pt missing.pt e.pt")
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "bncheck: b.pt: zip archive has no end: truncated download?",
        "bncheck: c.pt: bncheck itself failed (ZeroDivisionError: division by zero); "
        "please report it, with BNCHECK_TRACEBACK=1",
        "bncheck: d.pt: is text, no model",
        "bncheck: missing.pt: does not exist",
    ]
    assert "a.pt  pickled module" in ran.out
    assert "e.pt  ok" in ran.out
    assert "4 unreadable (exit 2)" in ran.out


def test_a_model_that_breaks_off_hides_no_other_of_its_file(bncheck: Any) -> None:
    bncheck.write(model_pt="late")
    ran = bncheck("model.pt")
    assert "model.pt  [good]  ok" in ran.out
    assert ran.err == "bncheck: model.pt: ends at byte 7: truncated download, or damaged\n"


def test_in_folders_what_is_no_model_is_skipped_and_counted(bncheck: Any) -> None:
    bncheck.write(m__a_pt="healthy", m__b_txt="text", m__c__d_md="text", m___git__x="text")
    ran = bncheck("m")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith("1 file: 1 ok, 2 other files skipped\n")
    report = json.loads(bncheck("m --format json").out)
    assert report["skipped"] == [str(Path("m/b.txt")), str(Path("m/c/d.md"))]


def test_a_broken_model_in_a_folder_is_not_skipped(bncheck: Any) -> None:
    bncheck.write(m__a_pt="healthy", m__b_pt="broken")
    assert bncheck("m").code == 2


def test_a_folder_without_models(bncheck: Any) -> None:
    bncheck.write(m__a_txt="text", m__b_txt="text")
    ran = bncheck("m")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "bncheck: no model found in m among 2 files\n"
    assert json.loads(bncheck("m --format json").out)["files"] == []


def test_an_unknown_key_is_told_with_the_known_ones(bncheck: Any) -> None:
    bncheck.write(a_pt="several", b_pt="healthy")
    ran = bncheck("a.pt b.pt --key emma")
    assert ran.err.splitlines() == [
        "bncheck: a.pt: holds no model under 'emma'; it holds ema, model",
        "bncheck: b.pt: holds no model under 'emma'; it holds a single one, without a key",
    ]


def test_infos_are_counted_unless_asked_for(bncheck: Any) -> None:
    bncheck.write(model_pt="dead")
    assert "  info: 1 dead-channels (--show info)\n" in bncheck("model.pt").out
    assert "  info BN207 dead-channels  bn1\n" in bncheck("model.pt --show info").out
    assert "  info BN207 dead-channels  bn1\n" in bncheck("model.pt --fail-on info").out


def test_a_required_rule_is_named_with_the_reason(bncheck: Any) -> None:
    bncheck.write(model_pt="weights")
    assert (
        "  required BN101 training-mode  was not assessed\n"
        in bncheck("model.pt --require BN101").out
    )
    ran = bncheck("model.pt --require BN101 --format json")
    assert ran.err == (
        "bncheck: model.pt: BN101 is required and was not assessed: a state_dict holds none\n"
    )


def test_lists_are_separated_by_commas_or_repeated(bncheck: Any) -> None:
    bncheck.write(model_pt="healthy")
    for options in ("--select BN201,BN2,ALL", "--select BN201 --select ALL,"):
        report = json.loads(bncheck(f"model.pt --format json {options}").out)
        assert "BN101" in report["files"][0]["assessed"]


def test_rules_in_preview_run_on_demand(bncheck: Any) -> None:
    bncheck.write(model_pt="healthy")
    runs = {"": False, "--preview": True, "--select BN2": False, "--select BN211": True}
    for options, runs_it in runs.items():
        ran = bncheck(f"model.pt --format json --level BN211=info {options}")
        (file,) = json.loads(ran.out)["files"]
        heard = {*file["assessed"], *(each["rule"] for each in file["not_assessed"])}
        assert ("BN211" in heard) is runs_it, options


def test_a_configuration_may_ask_for_previews(bncheck: Any) -> None:
    bncheck.write(model_pt="healthy")
    Path("bncheck.toml").write_text("preview = true\n", "utf-8")
    assert "BN703" in json.loads(bncheck("model.pt --format json").out)["files"][0]["assessed"]
    Path("bncheck.toml").write_text("preview = 1\n", "utf-8")
    ran = bncheck("model.pt")
    assert ran.code == 2
    assert ran.err == "bncheck: bncheck.toml: preview: must be true or false, not 1\n"


# output


def test_json_on_stdout_is_alone_there(bncheck: Any) -> None:
    bncheck.write(a_pt="negative", b_pt="broken")
    ran = bncheck("a.pt b.pt --format json")
    report = json.loads(ran.out)
    assert [file["verdict"] for file in report["files"]] == ["findings", "unreadable"]
    assert ran.err.startswith("bncheck: b.pt: ")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_report_in_a_file_is_what_stdout_would_show(bncheck: Any, form: str) -> None:
    bncheck.write(a_pt="negative", b_pt="healthy")
    shown = bncheck(f"a.pt b.pt --format {form}")
    ran = bncheck(f"a.pt b.pt --format {form} --output report")
    assert (ran.code, ran.out) == (1, "")
    assert (bncheck.folder / "report").read_text("utf-8") == shown.out
    assert ran.err.startswith("bncheck: 2 files: 1 ok, ")


def test_a_text_report_in_a_file_names_what_was_unreadable(bncheck: Any) -> None:
    bncheck.write(a_pt="broken")
    bncheck("a.pt --output report.txt")
    text = (bncheck.folder / "report.txt").read_text("utf-8")
    assert text.startswith("a.pt  unreadable  zip archive has no end: truncated download?\n")


def test_an_old_report_survives_a_crash(bncheck: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bncheck.write(a_pt="healthy", report_txt="the old one")

    def fail(*_: object) -> str:
        raise RuntimeError("half way")

    monkeypatch.setattr("bncheck.reports.json.render", fail)
    assert bncheck("a.pt --format json --output report.txt").code == 2
    assert (bncheck.folder / "report.txt").read_text("utf-8") == "the old one"


def test_no_temporary_file_stays(bncheck: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bncheck.write(a_pt="healthy")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    ran = bncheck("a.pt --output report.txt")
    assert ran.code == 2
    assert ran.err == "bncheck: report.txt: cannot be written: no space left on device\n"
    assert [path.name for path in bncheck.folder.iterdir()] == ["a.pt"]


def test_a_report_never_replaces_a_checked_model(bncheck: Any) -> None:
    bncheck.write(m__a_pt="healthy")
    ran = bncheck("m --output m/a.pt")
    assert ran.code == 2
    assert "is itself one of the files that were checked" in ran.err
    assert (bncheck.folder / "m/a.pt").read_text("utf-8") == "healthy"


def test_a_report_beside_the_models_can_be_written_again(bncheck: Any) -> None:
    bncheck.write(m__a_pt="healthy")
    assert bncheck("m --output m/report.txt").code == 0
    assert bncheck("m --output m/report.txt").code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_report_goes_where_a_link_leads(bncheck: Any) -> None:
    bncheck.write(a_pt="healthy", x__report_txt="old")
    (bncheck.folder / "link.txt").symlink_to("x/report.txt")
    assert bncheck("a.pt --output link.txt").code == 0
    assert (bncheck.folder / "link.txt").is_symlink()
    assert (bncheck.folder / "x/report.txt").read_text("utf-8").startswith("a.pt")


def test_names_from_a_file_cannot_command_a_terminal(bncheck: Any) -> None:
    bncheck.write(model_pt="escape")
    for line in ("model.pt", "inspect model.pt", "model.pt --format json"):
        ran = bncheck(line)
        assert "\x1b" not in ran.out, line
    assert "bn\\x1b[31m1" in bncheck("model.pt").out


# configuration


def test_each_path_has_the_configuration_closest_to_it(bncheck: Any) -> None:
    bncheck.write(strict__a_pt="training", lax__a_pt="training")
    (bncheck.folder / "lax" / "bncheck.toml").write_text('ignore = ["BN101"]')
    (bncheck.folder / "pyproject.toml").write_text("[tool.bncheck]\nfail-on = 'warning'")
    report = json.loads(bncheck("strict lax --format json").out)
    found = {file["path"]: {f["rule"] for f in file["findings"]} for file in report["files"]}
    assert found == {str(Path("strict/a.pt")): {"BN101"}, str(Path("lax/a.pt")): set()}


@pytest.mark.parametrize(
    ("configured", "word", "options", "code"),
    [
        ("fail-on = 'warning'", "convention", "", 1),
        ("fail-on = 'warning'", "convention", "--fail-on error", 0),
        ("ignore = ['BN101']", "training", "", 0),
        ("ignore = ['BN101']", "training", "--select BN101", 1),
        ("profile = 'train'", "training", "", 0),
        ("profile = 'train'", "training", "--profile deploy", 1),
        ("level.BN101 = 'info'", "training", "", 0),
        ("level.BN101 = 'info'", "training", "--level BN101=error", 1),
        ("require = ['BN101']", "weights", "", 1),
        ("assume-eval = true", "training", "", 0),
        ("assume-eval = ['other']", "training", "", 1),
        ("rules.BN207.threshold = 1e12\nfail-on = 'info'", "healthy", "", 1),
        ("unknown = 1", "healthy", "", 2),
    ],
)
def test_the_command_line_wins(
    bncheck: Any, configured: str, word: str, options: str, code: int
) -> None:
    bncheck.write(model_pt=word)
    (bncheck.folder / "bncheck.toml").write_text(configured)
    assert bncheck(f"model.pt {options}").code == code


def test_the_assertion_that_a_loader_calls_eval_is_said(bncheck: Any) -> None:
    bncheck.write(model_pt="training")
    (bncheck.folder / "pyproject.toml").write_text("[tool.bncheck]\nassume-eval = true")
    said = bncheck("model.pt --show info").out.split()
    assert "assume-eval in pyproject.toml" in " ".join(said)


def test_a_mistake_in_the_configuration_is_one_line(bncheck: Any) -> None:
    bncheck.write(model_pt="healthy")
    (bncheck.folder / "bncheck.toml").write_text("selct = []")
    ran = bncheck("model.pt")
    assert ran.out == ""
    assert ran.err == "bncheck: bncheck.toml: unknown key 'selct'; did you mean 'select'?\n"
