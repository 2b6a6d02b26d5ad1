"""The options --baseline and --write-baseline of bncheck check."""

from __future__ import annotations

import os
from pathlib import Path

from bncheck import console
from bncheck.acceptance import baseline
from bncheck.acceptance.baseline import Baseline
from bncheck.errors import BncheckError, ConfigurationError
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Checked, Entry, Outcome


def write(file: Path, outcome: Outcome, style: Style) -> Outcome:
    """Write what speaks against the models as a baseline; the outcome with it as known.

    Raises BncheckError where something was unreadable, or the file is no baseline.
    """
    _require_replaceable(file, outcome)
    reports = [checked.report for checked in outcome.checked]
    console.write_file(file, baseline.text(reports, file.parent, style.is_wrong))
    known = baseline.read(file)
    entries = tuple(_marked(known, each) for each in outcome.entries)
    count = known.kept().entries
    console.message(f"{file}: written, {count} {'finding' if count == 1 else 'findings'}")
    return Outcome(entries, outcome.fail_on, outcome.notes)


def _marked(known: Baseline, entry: Entry) -> Entry:
    if isinstance(entry, Checked):
        return Checked(known.applied(entry.report), entry.plan)
    return entry


def _require_replaceable(file: Path, outcome: Outcome) -> None:
    unreadable = len(outcome.report.unreadable)
    if unreadable:
        files = "1 file was" if unreadable == 1 else f"{unreadable} files were"
        raise BncheckError(f"--write-baseline {file}: nothing is written, {files} unreadable")
    if os.path.lexists(file):
        try:
            baseline.read(file)
        except ConfigurationError as error:
            raise BncheckError(f"--write-baseline {file}: is not replaced: {error}") from None
