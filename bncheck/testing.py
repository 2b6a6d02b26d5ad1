"""For test suites: one assertion that a model can be deployed.

    from bncheck.testing import assert_healthy

    def test_the_exported_model():
        assert_healthy("model.onnx")

The pytest fixture ``assert_healthy`` is the same under the project's configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from bncheck.api import judged, name_of
from bncheck.configuration.files import assumed_eval
from bncheck.configuration.settings import Settings
from bncheck.configuration.values import choice, rule_levels, rule_options
from bncheck.finding import Level
from bncheck.packs import loaded
from bncheck.report import Notes, Report
from bncheck.reports import text
from bncheck.reports.verdict import Style, live
from bncheck.running.outcome import Checked


def assert_healthy(
    target: object,
    *,
    level: Level | str | None = None,
    inputs: object | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    require: Sequence[str] = (),
    preview: bool | None = None,
    levels: Mapping[str, Level | str] | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
    assume_eval: bool = False,
    key: str | None = None,
    configuration: Settings | None = None,
) -> Report:
    """The report on a model that is fit to be deployed, whatever it has been trained for.

    Raises AssertionError for a finding at or above ``level`` (by default "error"), and for a rule
    in ``require`` that could not be assessed. ``configuration`` is a layer of settings below those
    that are given here; the rest, and what else is raised, are as in bncheck.check.
    """
    __tracebackhide__ = True
    given = Settings(
        select=None if select is None else tuple(select),
        ignore=tuple(ignore),
        require=tuple(require),
        profile="deploy",
        preview=preview,
        levels=rule_levels(dict(levels or {})),
        options=rule_options({rule: dict(each) for rule, each in (options or {}).items()}),
    )
    below = configuration or Settings()
    calls_eval = assume_eval or _asserted(target, below)
    entries = judged(target, (below, given), inputs, key, calls_eval)
    style = Style(fail_on=_gate(level, below))
    accepted = tuple(_accepted(entry, below) for entry in entries)
    if bad := [entry for entry in accepted if _fails(entry, style)]:
        raise AssertionError(_message(name_of(target), bad, style))
    return Report(tuple(entry.report for entry in accepted), notes=Notes(loaded()))


def _gate(level: Level | str | None, below: Settings) -> Any:
    configured = below.fail_on if below.fail_on != "never" else None
    return choice(Level)(level or configured or "error")


def _asserted(target: object, below: Settings) -> bool:
    """Whether the configuration says so of a file; a live module shows its mode itself."""
    return isinstance(target, str | PathLike) and bool(assumed_eval(below, Path(target)))


def _accepted(entry: Checked, below: Settings) -> Checked:
    """With what the configuration suppresses marked so."""
    if not below.suppressions or below.file is None:
        return entry
    from datetime import date

    from bncheck.acceptance.suppressions import Ledger

    ledger = Ledger(date.today())
    return Checked(ledger.applied(entry.report, below.suppressions, below.file), entry.plan)


def _fails(entry: Checked, style: Style) -> bool:
    return bool(entry.unmet) or _found(entry, style)


def _found(entry: Checked, style: Style) -> bool:
    return any(finding.level.rank >= style.gate.rank for finding in live(entry))


def _message(name: str, bad: Sequence[Checked], style: Style) -> str:
    found = "".join(text.entry(entry, style) for entry in bad)
    is_open = not any(_found(entry, style) for entry in bad)
    verdict = "cannot be shown to be healthy" if is_open else "is not healthy"
    return f"{name} {verdict}\n{found.rstrip()}"
