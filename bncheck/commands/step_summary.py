"""The summary of a job of GitHub Actions: Markdown that is added to a file which the step names."""

from __future__ import annotations

import os
from pathlib import Path

from bncheck.errors import BncheckError
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Outcome

VARIABLE = "GITHUB_STEP_SUMMARY"
LIMIT = 2**20  # bytes; of a step that writes more GitHub shows nothing


def file() -> Path:
    """Where the step's summary goes. Raises BncheckError outside such a step."""
    path = os.environ.get(VARIABLE)
    if not path:
        raise BncheckError(f"--github-summary: ${VARIABLE} is not set, as a step of GitHub sets it")
    return Path(path)


def add(path: Path, outcome: Outcome, style: Style) -> None:
    """Add the run to what the step has written already, as far as there is room."""
    from bncheck.reports import markdown

    try:
        written = path.stat().st_size if path.exists() else 0
        text = markdown.render(outcome, style, limit=LIMIT - written)
        with path.open("a", encoding="utf-8", newline="\n") as summary:
            summary.write(text)
    except OSError as error:
        raise BncheckError(f"{path}: cannot be written: {str(error.strerror).lower()}") from error
