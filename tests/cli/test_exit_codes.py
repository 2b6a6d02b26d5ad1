"""0 in order, 1 findings, 2 could not do the job: also where click would say otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck import cli


@pytest.mark.parametrize(
    ("word", "options", "code"),
    [
        ("healthy", "", 0),
        ("transformer", "", 0),
        ("weights", "", 0),
        ("dead", "", 0),
        ("convention", "", 0),
        ("training", "", 1),
        ("negative", "", 1),
        ("several", "", 1),
        ("several", "--key ema", 0),
        ("several", "--key model", 1),
        ("training", "--ignore BN101", 0),
        ("training", "--ignore BN1", 0),
        ("training", "--select BN2", 0),
        ("training", "--level BN101=warning", 0),
        ("training", "--profile train", 0),
        ("training", "--fail-on never", 0),
        ("convention", "--fail-on warning", 1),
        ("convention", "--level momentum-convention=error", 1),
        ("dead", "--fail-on warning", 0),
        ("dead", "--fail-on info", 1),
        ("weights", "--require BN101", 1),
        ("weights", "--require BN101 --fail-on never", 1),
        ("weights", "--require BN201", 0),
        ("healthy", "--require training-mode", 0),
        ("text", "", 2),
        ("broken", "", 2),
        ("broken", "--fail-on never", 2),
        ("bug", "", 2),
        ("late", "", 2),
        ("several", "--key emma", 2),
        ("healthy", "--select BN999", 2),
        ("healthy", "--level BN101", 2),
        ("healthy", "--level BN101=fatal", 2),
        ("healthy", "--require BN101 --ignore BN101", 2),
        ("healthy", "--fail-on sometimes", 2),
        ("healthy", "--config missing.toml", 2),
        ("healthy", "--output no/such/folder.txt", 2),
        ("healthy", "--output .", 2),
        ("healthy", "--nonsense", 2),
    ],
)
def test_exit_code_of_a_check(bncheck: Any, word: str, options: str, code: int) -> None:
    bncheck.write(model_pt=word)
    assert bncheck(f"model.pt {options}").code == code


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--version", 0),
        ("--help", 0),
        ("-h", 0),
        ("check --help", 0),
        ("explain BN101 negative-variance", 0),
        ("explain bn101", 0),
        ("rules", 0),
        ("rules --format json", 0),
        ("inspect model.pt", 0),
        ("inspect model.pt --format json", 0),
        ("", 2),
        ("check", 2),
        ("missing.pt", 2),
        ("*.onnx", 2),
        ("explain", 2),
        ("explain BN999", 2),
        ("inspect", 2),
        ("inspect missing.pt", 2),
        ("inspect notes.txt", 2),
        ("inspect model.pt --key ema", 2),
        ("rules --format xml", 2),
    ],
)
def test_exit_code_of_a_command(bncheck: Any, line: str, code: int) -> None:
    bncheck.write(model_pt="healthy", notes_txt="text")
    assert bncheck(line).code == code


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "bncheck: interrupted\n"),
        (ZeroDivisionError("by zero"), "bncheck itself failed (ZeroDivisionError: by zero)"),
        (MemoryError(), "bncheck itself failed (MemoryError)"),
        (OSError("disk on fire"), "bncheck itself failed (OSError: disk on fire)"),
    ],
)
def test_what_leaves_a_command_is_one_line_and_exit_2(
    bncheck: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr("bncheck.commands.check.check", fail)
    ran = bncheck("model.pt")
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_traceback_is_there_for_those_who_ask(
    bncheck: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNCHECK_TRACEBACK", "1")
    bncheck.write(model_pt="bug")
    ran = bncheck("model.pt")
    assert ran.code == 2
    assert "Traceback" in ran.err
    assert "please report it" in ran.err


def test_no_command_shows_what_there_is(bncheck: Any) -> None:
    ran = bncheck("")
    assert ran.out == ""
    assert "Usage: bncheck" in ran.err


def test_the_entry_point_hands_its_code_to_the_shell() -> None:
    assert cli.main(["--version"]) == 0
