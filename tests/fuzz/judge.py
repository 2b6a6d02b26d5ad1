"""Reads a model, looks at all of it, and holds what bncheck promises of any file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bncheck.configuration.settings import Plan, plan
from bncheck.engine import assess
from bncheck.errors import UnreadableModel
from bncheck.facts import Fact, UnknownFact
from bncheck.model import Model
from bncheck.readers import read
from bncheck.report import ModelReport, Report
from bncheck.reports import text
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Checked
from bncheck.tensor import Tensor

LONGEST_REASON = 400  # characters


class BrokenPromise(AssertionError):
    """Something that no file may bring about."""


@dataclass(slots=True)
class Judge:
    """Reads files; what may not happen leaves it as an exception."""

    plan: Plan

    def is_read(self, path: Path, with_rules: bool) -> bool:
        """Whether a file is read; else it was refused in one line."""
        try:
            models = read(path)
        except UnreadableModel as error:
            require_one_line(error.reason)
            return False
        for model in models:
            look_at_everything(model)
            if with_rules:
                self._judge(path, model)
        return True

    def _judge(self, path: Path, model: Model) -> None:
        try:
            result = assess(model, self.plan.rules, self.plan.policy)
        except UnreadableModel as error:  # of values that are read only now
            require_one_line(error.reason)
            return
        report = ModelReport(str(path), model, result)
        json.dumps(Report((report,)).to_dict(), allow_nan=False)
        require_plain(text.entry(Checked(report, self.plan), Style()))


def judge() -> Judge:
    """One with all rules."""
    from bncheck.configuration.settings import Settings

    return Judge(plan(Settings(select=("ALL",))))


def require_plain(report: str) -> None:
    """Nothing in a report moves the cursor, or fails to be written."""
    if not report.replace("\n", "").isprintable():
        raise BrokenPromise(f"a report with what cannot be printed: {report!r}")


def require_one_line(reason: str) -> None:
    if not (0 < len(reason) < LONGEST_REASON and reason.isprintable()):
        raise BrokenPromise(f"a reason that is not one line to act on: {reason!r}")


def look_at_everything(model: Model) -> None:
    """Every fact of a model, its layers and its graph, and the values of all their tensors."""
    for holder in (model, *model.layers):
        for fact in (name for name, kind in vars(type(holder)).items() if isinstance(kind, Fact)):
            for value in knowledge(holder, fact):
                look_at(value)
    for layer in model.layers:
        list(knowledge(layer, "counter"))
    for graph in knowledge(model, "order"):
        for node in graph.nodes:
            for value in node.parameters.values():
                look_at(value)
            for output in node.outputs:
                graph.uses(output), graph.producer(output), graph.depends_on_input(output)


def look_at(value: object) -> None:
    if isinstance(value, Tensor):
        for reduced in ("values", "finite", "minimum", "maximum"):
            list(knowledge(value, reduced))


def knowledge(holder: object, name: str) -> Iterator[Any]:
    """An attribute, where it is known and can be read."""
    try:
        yield getattr(holder, name)
    except (UnknownFact, UnreadableModel) as error:
        require_one_line(str(error))
