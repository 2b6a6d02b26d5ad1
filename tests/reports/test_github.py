"""Workflow commands as the runner of GitHub Actions reads them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from bncheck.report import Unreadable
from bncheck.reports.github import CAP, render
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Outcome

PROPERTIES = {"%2C": ",", "%3A": ":", "%0A": "\n", "%0D": "\r", "%25": "%"}
DATA = {"%0A": "\n", "%0D": "\r", "%25": "%"}
KNOWN = {"error", "warning", "notice"}


class Read(NamedTuple):
    """A command as the runner understands it, or a line that is none."""

    kind: str
    file: str
    title: str
    message: str


def unescaped(text: str, table: dict[str, str]) -> str:
    for escape, character in table.items():
        text = text.replace(escape, character)
    return text


def read(line: str) -> Read:
    """A line by the rules of actions/runner, ActionCommand.TryParseV2."""
    head, found, data = line[2:].partition("::")
    assert found
    kind, _, rest = head.partition(" ")
    pairs = (each.partition("=") for each in rest.split(",") if each)
    known = {key.strip(): unescaped(value, PROPERTIES) for key, _, value in pairs}
    assert set(known) <= {"file", "title"}
    return Read(kind, known.get("file", ""), known["title"], unescaped(data, DATA))


def commands(*entries: Any, **style: Any) -> list[Read]:
    """The commands of a run; what else is printed is text to the runner."""
    chosen = Style(**style)
    lines = render(Outcome(entries, chosen.fail_on), chosen).split("\n")
    is_command = [line.lstrip().startswith("::") for line in lines]
    assert is_command == sorted(is_command, reverse=True)
    assert not any("##[" in line for line, read in zip(lines, is_command, strict=True) if not read)
    every = [read(line) for line, its in zip(lines, is_command, strict=True) if its]
    assert {each.kind for each in every} <= KNOWN
    return every


def test_one_for_each_file_and_rule(make: Any) -> None:
    found = [
        *make.findings("BN101", make.resnet, "Saved in training mode."),
        *make.findings("BN202", ["bn1"], "running_var is -0.2"),
        *make.findings("BN301", [None], "batches of 2"),
    ]
    checked = make.checked(make.model(), found, path="./models/a.pt")
    assert commands(checked) == [
        Read(
            "error",
            "models/a.pt",
            "BN101 training-mode",
            "49 layers: bn1, layer1.0.bn1, ... +47: Saved in training mode.\nFix: fix it.",
        ),
        Read("error", "models/a.pt", "BN202 negative-variance",
             "bn1: running_var is -0.2\nFix: fix it."),
        Read("warning", "models/a.pt", "BN301 tiny-batch", "batches of 2\nFix: fix it."),
    ]  # fmt: skip


def test_the_models_of_a_file_share_an_annotation(make: Any) -> None:
    found = make.findings("BN202", ["a", "b"], "min -{}")
    files = [make.checked(make.model(member=m), found, path="a.pt") for m in ("model", "ema")]
    (single,) = commands(*files)
    assert single.message.startswith("[model, ema] 2 layers: a, b: For example: min -0")


def test_the_rest_of_the_log_sums_up(make: Any) -> None:
    checked = make.checked(make.model(), make.findings("BN202", ["a"], "x"))
    assert render(Outcome((checked,)), Style()).splitlines()[-1] == (
        "1 file: 1 error in 1 layer (exit 1). More: bncheck explain BN202"
    )


def test_a_healthy_model_is_silent(make: Any) -> None:
    infos = make.findings("BN207", ["a"], "x")
    assert render(Outcome((make.checked(make.model(), infos),)), Style()) == ""
    (shown,) = commands(make.checked(make.model(), infos), show_info=True)
    assert shown.kind == "notice"


def test_what_is_suppressed_is_left_out(make: Any) -> None:
    (finding,) = make.findings("BN202", ["a"], "x")
    assert commands(make.checked(make.model(), [replace(finding, suppressed=True)])) == []


def test_what_stays_open_is_said(make: Any) -> None:
    missing = make.missing(["BN101"], "mode", "a state_dict holds none", "check the .onnx")
    (notice,) = commands(make.checked(make.model(), missing=missing))
    assert (notice.kind, notice.title) == ("notice", "bncheck: partly assessed")
    assert "a state_dict holds none. Check the .onnx" in notice.message
    required = commands(make.checked(make.model(), missing=missing, require=["BN101"]))
    assert [each.kind for each in required] == ["error"]


@pytest.mark.parametrize("files", [CAP - 1, CAP, CAP + 1, 40])
def test_no_more_than_a_step_shows(make: Any, files: int) -> None:
    found = [
        *make.findings("BN202", ["a"], "x"),
        *make.findings("BN301", ["a"], "x"),
    ]
    entries = [make.checked(make.model(), found, path=f"{i}.pt") for i in range(files)]
    every = commands(*entries)
    for kind in ("error", "warning"):
        of_kind = [each for each in every if each.kind == kind]
        assert len(of_kind) == min(files, CAP)
        if files > CAP:
            left = files - CAP + 1
            assert of_kind[-1].message == f"{left} more in {left} files: see the full report."


def test_unreadable_files_come_first(make: Any) -> None:
    found = make.findings("BN202", ["a"], "x")
    first, _ = commands(make.checked(make.model(), found), Unreadable("b.pt", "is empty"))
    assert first == Read("error", "b.pt", "bncheck: unreadable", "is empty")


def test_escapes_are_those_of_the_toolkit(make: Any) -> None:
    found = make.findings("BN202", ["a:b,c%d"], "50%: x::y,z")
    text = render(Outcome((make.checked(make.model(), found, path="a,b:c%d.pt"),)), Style())
    # What @actions/core 3.0.1 writes of core.error(message, { file, title }), title first.
    assert text.splitlines()[0] == (
        "::error file=a%2Cb%3Ac%25d.pt,title=BN202 negative-variance::"
        "a:b,c%25d: 50%25: x::y,z%0AFix: fix it."
    )


def test_names_by_an_attacker_stay_names(hostile: Outcome) -> None:
    every = commands(*hostile.entries)
    assert [each.kind for each in every] == ["error", "error", "warning"]
    for each in every:
        assert all(line.isprintable() for line in each.message.split("\n"))
        assert re.fullmatch(r"BN\d+ [a-z-]+|bncheck: unreadable", each.title)
        assert each.file == r"models/\x1b\n|`<b>.pt" or each.file == "models/a b#c%?[x](y).pt"
