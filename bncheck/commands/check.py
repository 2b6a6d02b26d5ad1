"""bncheck check: from a request to an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bncheck import console, packs
from bncheck.acceptance.accepted import Accepted, notices
from bncheck.commands import step_summary
from bncheck.configuration.files import Configurations, assumed_eval, shown
from bncheck.configuration.settings import Plan, Settings, plan
from bncheck.errors import BncheckError
from bncheck.report import Unreadable
from bncheck.reports import formats, text
from bncheck.reports.layout import plain
from bncheck.reports.summary import summary
from bncheck.reports.verdict import Style
from bncheck.running.condensed import Detail, counted
from bncheck.running.discover import Candidate, discover
from bncheck.running.outcome import Checked, Entry, Outcome
from bncheck.running.progress import Progress
from bncheck.running.runner import Job, Way, run

# What the formats draw of a layer, beside its name and kind.
DETAILS = {"json": Detail.FACTS, "html": Detail.VALUES}


class Request(NamedTuple):
    """What the command line says. ``jobs``: processes, 0 for one on each core."""

    paths: tuple[str, ...]
    settings: Settings
    format: str = "text"
    output: Path | None = None
    key: str | None = None
    config: Path | None = None
    baseline: Path | None = None
    write_baseline: Path | None = None
    jobs: int = 1
    github_summary: bool = False

    @property
    def streams(self) -> bool:
        """Whether each model is reported as soon as it is checked, and then forgotten."""
        kept = self.output or self.write_baseline or self.github_summary
        return self.format == "text" and not kept

    @property
    def way(self) -> Way:
        """How each file is checked."""
        return Way(self.key, DETAILS.get(self.format, Detail.NAMES))

    @property
    def processes(self) -> int:
        """How many check at once."""
        return self.jobs or _cores()


def _cores() -> int:
    """Those that this process may use; a container may hold fewer than the machine."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check(request: Request) -> int:
    """Check and report; the exit code. Raises BncheckError for bad usage or configuration."""
    _require_folder(request.output)
    formats.require(request.format)
    github = step_summary.file() if request.github_summary else None
    configurations = Configurations(request.config)
    here = configurations.of(Path())
    style = _style(request, here)
    jobs = list(_jobs(request, configurations))
    accepted = _accepted(request, jobs)
    entries = tuple(_told(_entries(jobs, accepted, request), request, style))
    outcome = Outcome(entries, style.fail_on, accepted.notes(packs.loaded()))
    if request.write_baseline:
        outcome = _with_baseline(request.write_baseline, outcome, style)
    if not outcome.report.files:
        _tell_of_nothing(request, outcome)
    _finish(request, outcome, style)
    if github:
        step_summary.add(github, outcome, style)
    for notice in notices(outcome.notes):
        console.message(notice)
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
            plans[settings.file] = _plan(settings, request)
        yield _job(candidate, settings, plans[settings.file])


def _plan(settings: Settings, request: Request) -> Plan:
    """What a new baseline is to list is not to be suppressed by an old one."""
    decided = plan(settings, request.settings)
    own = shown(decided.baseline) if decided.baseline else None
    return decided._replace(baseline=None if request.write_baseline else request.baseline or own)


def _job(candidate: Candidate, settings: Settings, its_plan: Plan) -> Job:
    return Job(candidate, its_plan, assumed_eval(settings, candidate.path))


def _accepted(request: Request, jobs: Sequence[Job]) -> Accepted:
    return Accepted(
        plans={str(job.candidate.path): job.plan for job in jobs},
        searched=any(not job.candidate.named for job in jobs),
        whole_files=request.key is None,
    )


def _with_baseline(file: Path, outcome: Outcome, style: Style) -> Outcome:
    from bncheck.commands import baseline

    return baseline.write(file, outcome, style)


def _entries(jobs: Sequence[Job], accepted: Accepted, request: Request) -> Iterator[Entry]:
    """Entries as they come, what is accepted of them marked."""
    progress = Progress(len(jobs))
    try:
        for done, of_file in enumerate(run(jobs, request.way, request.processes), 1):
            if request.streams or any(map(_is_spoken_of, of_file)):
                progress.hide()
            yield from map(accepted.applied, of_file)
            progress.show(done)
    finally:
        progress.hide()


def _is_spoken_of(entry: Entry) -> bool:
    return isinstance(entry, Unreadable) or (isinstance(entry, Checked) and bool(entry.unmet))


def _told(entries: Iterable[Entry], request: Request, style: Style) -> Iterator[Entry]:
    """Entries as they come, each said where it belongs at once."""
    for entry in entries:
        if isinstance(entry, Unreadable):
            console.message(f"{entry.path}: {entry.error}")
        elif isinstance(entry, Checked) and request.streams:
            entry = _written(entry, style)
        elif isinstance(entry, Checked):
            for open_rule in entry.unmet:
                what = f"{open_rule.rule} is required and was not assessed"
                console.message(f"{entry.report.path}: {what}: {open_rule.unknown.why}")
        yield entry


def _written(checked: Checked, style: Style) -> Checked:
    """What the last line needs, so that a run over many files takes no memory for them."""
    console.write(text.entry(checked, style))
    left = counted(checked.report, lambda found: found.suppressed or style.is_wrong(found))
    return Checked(left, checked.plan)


def _tell_of_nothing(request: Request, outcome: Outcome) -> None:
    skipped = len(outcome.report.skipped)
    seen = f" among {skipped} file{'s' * (skipped != 1)}" if skipped else ""
    console.message(f"no model found in {', '.join(request.paths)}{seen}")


def _finish(request: Request, outcome: Outcome, style: Style) -> None:
    if request.streams:
        console.write(summary(outcome, style))
        return
    report = formats.render(request.format, outcome, style)
    if request.output is None:
        console.write(report)
        return
    _refuse_to_replace_a_model(request.output, outcome)
    console.write_file(request.output, report)
    if line := " ".join(summary(outcome, style).split()):
        console.message(line)


def _require_folder(output: Path | None) -> None:
    if output and not output.parent.is_dir():
        raise BncheckError(f"--output {output}: there is no folder {output.parent}")


def _refuse_to_replace_a_model(output: Path, outcome: Outcome) -> None:
    real = os.path.realpath(output)
    if any(os.path.realpath(file.path) == real for file in outcome.report.files):
        raise BncheckError(f"--output {output}: is itself one of the files that were checked")
