"""bncheck check: from a request to an exit code."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bncheck import console
from bncheck.config import Configurations, assumed_eval
from bncheck.discover import Candidate, discover
from bncheck.errors import BncheckError
from bncheck.outcome import Checked, Entry, Outcome
from bncheck.report import Unreadable
from bncheck.reports import text
from bncheck.reports.layout import plain
from bncheck.reports.summary import summary
from bncheck.reports.verdict import Style
from bncheck.runner import Job, run
from bncheck.settings import Plan, Settings, plan


class Request(NamedTuple):
    """What the command line says."""

    paths: tuple[str, ...]
    settings: Settings
    format: str = "text"
    output: Path | None = None
    key: str | None = None
    config: Path | None = None

    @property
    def streams(self) -> bool:
        """Whether each model is reported as soon as it is checked."""
        return self.format == "text" and self.output is None


def check(request: Request) -> int:
    """Check and report; the exit code. Raises BncheckError for bad usage or configuration."""
    _require_folder(request.output)
    configurations = Configurations(request.config)
    style = _style(request, configurations.of(Path()))
    jobs = list(_jobs(request, configurations))
    outcome = Outcome(tuple(_told(run(jobs, request.key), request, style)), style.fail_on)
    if not outcome.report.files:
        _tell_of_nothing(request, outcome)
    _finish(request, outcome, style)
    return outcome.exit_code


def _style(request: Request, here: Settings) -> Style:
    """The choices for the whole run: the command line's, else those of the current folder."""
    asked = request.settings
    return Style(
        fail_on=asked.fail_on or here.fail_on or "error",
        show_info=(asked.show or here.show) == "info",
        paint=plain if request.output else console.paint(),
    )


def _jobs(request: Request, configurations: Configurations) -> Iterator[Job]:
    plans: dict[Path | None, Plan] = {}
    for candidate in discover(request.paths):
        settings = configurations.of(candidate.path.parent)
        if settings.file not in plans:
            plans[settings.file] = plan(settings, request.settings)
        yield _job(candidate, settings, plans[settings.file])


def _job(candidate: Candidate, settings: Settings, its_plan: Plan) -> Job:
    return Job(candidate, its_plan, assumed_eval(settings, candidate.path))


def _told(entries: Iterable[Entry], request: Request, style: Style) -> Iterator[Entry]:
    """Entries as they come, each said where it belongs at once."""
    for entry in entries:
        if isinstance(entry, Unreadable):
            console.message(f"{entry.path}: {entry.error}")
        elif isinstance(entry, Checked) and request.streams:
            console.write(text.entry(entry, style))
        elif isinstance(entry, Checked):
            for open_rule in entry.unmet:
                what = f"{open_rule.rule} is required and was not assessed"
                console.message(f"{entry.report.path}: {what}: {open_rule.unknown.why}")
        yield entry


def _tell_of_nothing(request: Request, outcome: Outcome) -> None:
    skipped = len(outcome.report.skipped)
    seen = f" among {skipped} file{'s' * (skipped != 1)}" if skipped else ""
    console.message(f"no model found in {', '.join(request.paths)}{seen}")


def _finish(request: Request, outcome: Outcome, style: Style) -> None:
    if request.streams:
        console.write(summary(outcome, style))
        return
    report = _render(request.format, outcome, style)
    if request.output is None:
        console.write(report)
        return
    _refuse_to_replace_a_model(request.output, outcome)
    console.write_file(request.output, report)
    if line := " ".join(summary(outcome, style).split()):
        console.message(line)


def _render(form: str, outcome: Outcome, style: Style) -> str:
    if form == "json":
        from bncheck.reports import json

        return json.render(outcome.report)
    return "".join(_texts(outcome, style)) + summary(outcome, style)


def _texts(outcome: Outcome, style: Style) -> Iterator[str]:
    for entry in outcome.entries:
        if isinstance(entry, Checked):
            yield text.entry(entry, style)
        elif isinstance(entry, Unreadable):
            yield text.unreadable(entry, style)


def _require_folder(output: Path | None) -> None:
    if output and not output.parent.is_dir():
        raise BncheckError(f"--output {output}: there is no folder {output.parent}")


def _refuse_to_replace_a_model(output: Path, outcome: Outcome) -> None:
    real = os.path.realpath(output)
    if any(os.path.realpath(file.path) == real for file in outcome.report.files):
        raise BncheckError(f"--output {output}: is itself one of the files that were checked")
