"""One run: candidates through the readers and the engine, to entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from bncheck import crash, readers
from bncheck.configuration.settings import Plan
from bncheck.engine import assess
from bncheck.errors import BncheckError, NotAModel, UnreadableModel
from bncheck.model import Model
from bncheck.report import ModelReport, Unreadable
from bncheck.running.condensed import Detail, condensed
from bncheck.running.discover import Candidate
from bncheck.running.outcome import Checked, Entry, Skipped


class Job(NamedTuple):
    """A candidate, the plan that holds for it, and who is said to call eval() on it."""

    candidate: Candidate
    plan: Plan
    assumed_eval: str | None = None


class Way(NamedTuple):
    """How files are checked: which model of each, and how much of it is kept for the report."""

    key: str | None = None
    detail: Detail = Detail.FACTS


def run(jobs: Sequence[Job], way: Way, processes: int = 1) -> Iterator[tuple[Entry, ...]]:
    """Check file after file, the entries of each together and in the order of the jobs.

    Whatever is wrong with one is an entry and hides no other.
    """
    if min(processes, len(jobs)) < 2:
        return (entries(job, way) for job in jobs)
    from bncheck.running import workers

    return workers.run(jobs, way, processes)


def entries(job: Job, way: Way) -> tuple[Entry, ...]:
    """What comes of one file: an entry for each of its models."""
    return tuple(_guarded(str(job.candidate.path), _check(job, way)))


def _check(job: Job, way: Way) -> Iterator[Entry]:
    candidate = job.candidate
    path = str(candidate.path)
    if candidate.problem:
        raise UnreadableModel(candidate.problem)
    try:
        models = readers.read(candidate.path)
    except NotAModel:
        if candidate.named:
            raise
        yield Skipped(path)
        return
    for model in pick(models, way.key):
        yield from _guarded(path, _judged(job, model, way.detail))


def _judged(job: Job, model: Model, detail: Detail) -> Iterator[Checked]:
    if job.assumed_eval and not model.loader_calls_eval:
        model = replace(model, loader_calls_eval=job.assumed_eval)
    assessment = assess(model, job.plan.rules, job.plan.policy)
    report = ModelReport(str(job.candidate.path), condensed(model, detail), assessment)
    yield Checked(report, job.plan)


def _guarded(path: str, work: Iterator[Entry]) -> Iterator[Entry]:
    """The entries of lazy work, up to where it fails; the failure is the last."""
    try:
        yield from work
    except BncheckError as error:
        yield Unreadable(path, str(error))
    except Exception as error:
        if crash.wants_traceback():
            raise
        yield Unreadable(path, crash.one_line(error))


def pick(models: tuple[Model, ...], key: str | None) -> tuple[Model, ...]:
    """The models under a key, all without one. Raises UnreadableModel naming the known keys."""
    if key is None:
        return models
    picked = tuple(model for model in models if model.member == key)
    if not picked:
        known = ", ".join(sorted(model.member for model in models if model.member))
        raise UnreadableModel(
            f"holds no model under {key!r}; it holds {known or 'a single one, without a key'}"
        )
    return picked
