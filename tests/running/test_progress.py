"""The line that tells how far a run is."""

from __future__ import annotations

import io

import pytest

from bncheck.running import progress
from bncheck.running.progress import CLEAR, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.0)


def test_a_line_is_taken_away_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    line = Progress(3)
    line.show(1)
    line.hide()
    line.hide()
    line.show(2)
    assert terminal.getvalue() == f"\r1 of 3 files{CLEAR}\r2 of 3 files"


@pytest.mark.parametrize(("stream", "total"), [(io.StringIO(), 3), (Terminal(), 1), (None, 3)])
def test_it_is_for_terminals_and_many_files(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None, total: int
) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    line = Progress(total)
    line.show(1)
    line.hide()
    assert stream is None or stream.getvalue() == ""


def test_a_short_run_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY", 60.0)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    Progress(3).show(2)
    assert terminal.getvalue() == ""
