"""The last line of a text report: what the whole run comes to."""

from __future__ import annotations

from collections import Counter

from bncheck.finding import Level
from bncheck.outcome import Outcome
from bncheck.reports.contents import plural
from bncheck.reports.grouping import Group, grouped
from bncheck.reports.layout import fill, words
from bncheck.reports.verdict import NONE_KNOWN, OK, PARTLY, WITHOUT, Style, live, verdict


def summary(outcome: Outcome, style: Style) -> str:
    """One line, or nothing where a single file is in order and its own line said so."""
    verdicts = Counter(verdict(checked, style) for checked in outcome.checked)
    if not outcome.report.files or _says_nothing_new(outcome, verdicts):
        return ""
    groups = [grouped(filter(style.is_wrong, live(checked))) for checked in outcome.checked]
    wrong = [*_found(groups), *_rest(outcome)]
    parts = [*_healthy(verdicts, alone=not wrong), *wrong]
    exit_code = f" (exit {outcome.exit_code})" if outcome.exit_code else ""
    line = f"{_counted(outcome)}: {', '.join(parts)}{exit_code}{_more(groups)}"
    return fill(words(line), "", "  ", style.paint)


def _says_nothing_new(outcome: Outcome, verdicts: Counter[str]) -> bool:
    quiet = verdicts[OK] + verdicts[WITHOUT] + verdicts[NONE_KNOWN]
    return quiet == len(outcome.entries) == 1


def _counted(outcome: Outcome) -> str:
    files, entries = outcome.report.summary()["files"], len(outcome.report.files)
    models = f", {entries} models" if entries > files else ""
    return f"{files} {plural(files, 'file')}{models}"


def _healthy(verdicts: Counter[str], alone: bool) -> list[str]:
    without = verdicts[WITHOUT] + verdicts[NONE_KNOWN]
    alone = alone and not verdicts[OK] and not without
    counted = (
        (verdicts[OK], OK),
        (verdicts[PARTLY], PARTLY if alone else "partly assessed"),
        (without, "without BatchNorm"),
    )
    return [f"{count} {what}" for count, what in counted if count]


def _found(groups: list[list[Group]]) -> list[str]:
    every = [group for model in groups for group in model]
    levels = Counter(group.first.level for group in every)
    layers = sum(len({layer for group in model for layer in group.layers}) for model in groups)
    worst_first = sorted(Level, key=lambda level: -level.rank)
    parts = [f"{levels[e]} {plural(levels[e], e.value)}" for e in worst_first if levels[e]]
    if parts and layers:
        parts[-1] += f" in {layers} {plural(layers, 'layer')}"
    return parts


def _rest(outcome: Outcome) -> list[str]:
    report, unmet = outcome.report, sum(len(checked.unmet) for checked in outcome.checked)
    skipped = len(report.skipped)
    counted = (
        (unmet, f"required {plural(unmet, 'rule')} not assessed"),
        (len(report.unreadable), "unreadable"),
        (report.summary()["suppressed"], "suppressed"),
        (skipped, f"other {plural(skipped, 'file')} skipped"),
    )
    return [f"{count} {what}" for count, what in counted if count]


def _more(groups: list[list[Group]]) -> str:
    """Where to read on about the finding that concerns the most layers."""
    every = [group for model in groups for group in model]
    if not every:
        return ""
    widest = max(every, key=lambda group: len(group.layers))
    return f". More: bncheck explain {widest.first.rule}"
