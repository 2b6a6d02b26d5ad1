"""--format, --output and --github-summary: each format from the command line to a file."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bncheck.cli import main
from bncheck.commands.step_summary import LIMIT, VARIABLE
from bncheck.reports.formats import FORMATS, LIBRARIES

FIXTURES = Path(__file__).parents[2] / "fixtures"
BROKEN = str(FIXTURES / "BN202-negative-variance" / "error.onnx")
GOOD = str(FIXTURES / "BN202-negative-variance" / "good.onnx")
BEGINNINGS = {
    "text": "/",
    "json": "{",
    "sarif": "{",
    "junit": "<testsuites ",
    "github": "::error ",
    "gitlab": "[",
    "markdown": "## bncheck\n",
    "html": "<!DOCTYPE html>\n",
}
every_format = pytest.mark.parametrize("form", FORMATS)


def read(form: str, text: str) -> object:
    """The report as the program reads it that it is for."""
    if form in ("json", "sarif", "gitlab"):
        return json.loads(text)
    return ElementTree.fromstring(text) if form == "junit" else text


@every_format
def test_every_format_goes_to_stdout_and_to_a_file(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--format", form, BROKEN, GOOD]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith(BEGINNINGS[form]) and printed.endswith("\n")
    assert read(form, printed) is not None and "BN202" in printed
    report = tmp_path / "report"
    assert main(["--format", form, "--output", str(report), BROKEN, GOOD]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "1 error" in said.err
    assert report.read_bytes().decode("utf-8") == printed


@every_format
def test_every_format_says_what_could_not_be_read(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"PK\x03\x04 and no more")
    assert main(["--format", form, str(broken), GOOD]) == 2
    said = capsys.readouterr()
    reason = said.err.partition("broken.pt: ")[2].strip()
    assert len(reason) > 10
    plain = said.out.replace("&#39;", "'").replace("%25", "%")
    assert form == "text" or reason.partition(":")[0] in plain


@every_format
def test_every_format_of_nothing_found(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--format", form, str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "no model found" in said.err
    assert form in ("text", "github") or read(form, said.out) is not None


@every_format
def test_every_format_has_the_models_of_a_checkpoint(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    norm = torch.nn.BatchNorm2d(4)
    norm.running_var[2] = -0.2
    weights = {f"bn.{name}": value for name, value in norm.state_dict().items()}
    average = {name: value.clone() for name, value in weights.items()}
    torch.save({"model": weights, "ema": average}, tmp_path / "a.pth")
    assert main(["--format", form, str(tmp_path / "a.pth")]) == 1
    printed = capsys.readouterr().out
    assert "ema" in printed and "-0.2" in printed


@pytest.mark.parametrize("form", sorted(LIBRARIES))
def test_a_missing_library_is_said_before_any_work(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bncheck.reports.formats.find_spec", lambda name: None)
    assert main(["--format", form, "no such file.pt"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "no such" not in said.err
    assert said.err.endswith('pip install "bncheck[reports]"\n')


def test_the_summary_of_a_step_is_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# Before\n", "utf-8")
    monkeypatch.setenv(VARIABLE, str(summary))
    assert main(["--github-summary", BROKEN]) == 1
    text = summary.read_text("utf-8")
    assert text.startswith("# Before\n## bncheck\n") and "negative-variance" in text
    assert "error BN202" in capsys.readouterr().out


def test_the_summary_of_a_step_stays_within_what_github_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_bytes(b"x" * (LIMIT - 300))
    monkeypatch.setenv(VARIABLE, str(summary))
    main(["--github-summary", "--fail-on", "never", BROKEN])
    assert LIMIT - 300 < summary.stat().st_size <= LIMIT
    assert summary.read_text("utf-8").endswith("see the full report.\n")


def test_a_summary_outside_a_step_is_an_error_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert main(["--github-summary", "no such file.pt"]) == 2
    said = capsys.readouterr().err
    assert VARIABLE in said and "no such" not in said


def test_a_summary_that_cannot_be_written_is_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "missing" / "summary.md"))
    assert main(["--github-summary", GOOD]) == 2
    assert "cannot be written" in capsys.readouterr().err
