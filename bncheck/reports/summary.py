"""The last line of a text report: what the whole run comes to."""

from __future__ import annotations

from collections import Counter

from bncheck.finding import Level
from bncheck.reports.contents import plural
from bncheck.reports.grouping import Group, grouped, ranges
from bncheck.reports.layout import fill, words
from bncheck.reports.verdict import NONE_KNOWN, OK, PARTLY, WITHOUT, Style, live, verdict
from bncheck.running.outcome import Outcome


def summary(outcome: Outcome, style: Style) -> str:
    """The last line, and one about rules that are not bncheck's own."""
    return _last_line(outcome, style) + _packs(outcome, style)


def _packs(outcome: Outcome, style: Style) -> str:
    named = [f"{', '.join(ranges([r.id for r in p.rules]))} of {p}" for p in outcome.notes.packs]
    return fill(words(f"Rules added: {'; '.join(named)}"), "", "  ", style.paint) if named else ""


def _last_line(outcome: Outcome, style: Style) -> str:
    """One line, or nothing where a single file is in order and its own line said so."""
    if not outcome.report.files or _says_nothing_new(outcome, _verdicts(outcome, style)):
        return ""
    exit_code = f" (exit {outcome.exit_code})" if outcome.exit_code else ""
    line = f"{_headline(outcome, style)}{exit_code}{_more(_wrong(outcome, style))}"
    return fill(words(line), "", "  ", style.paint)


def _headline(outcome: Outcome, style: Style) -> str:
    """What the run comes to: ``2 files: 1 ok, 2 errors in 21 layers``."""
    wrong = [*_found(_wrong(outcome, style)), *_failures(outcome), *_others(outcome)]
    parts = [*_healthy(_verdicts(outcome, style), alone=not wrong), *wrong]
    return f"{_counted(outcome)}: {', '.join(parts) or 'no model'}"


def title(outcome: Outcome, style: Style) -> str:
    """What a reader wants to know first: ``3 errors, 1 warning in 53 layers``."""
    parts = [*_found(_wrong(outcome, style)), *_failures(outcome)]
    open_still = PARTLY in _verdicts(outcome, style)
    clean = "Nothing wrong, partly assessed" if open_still else "Nothing wrong"
    return ", ".join(parts) or (clean if outcome.report.files else "No model found")


def subtitle(outcome: Outcome, style: Style) -> list[str]:
    """And what next: how many files, in what state, where there are several."""
    several = len(outcome.report.files) > 1
    healthy = _healthy(_verdicts(outcome, style), alone=False) if several else []
    return [_counted(outcome), *healthy, *_others(outcome)]


def _verdicts(outcome: Outcome, style: Style) -> Counter[str]:
    return Counter(verdict(checked, style) for checked in outcome.checked)


def _wrong(outcome: Outcome, style: Style) -> list[list[Group]]:
    return [grouped(filter(style.is_wrong, live(checked))) for checked in outcome.checked]


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
    return _some(*counted)


def _found(groups: list[list[Group]]) -> list[str]:
    every = [group for model in groups for group in model]
    levels = Counter(group.first.level for group in every)
    layers = sum(len({layer for group in model for layer in group.layers}) for model in groups)
    worst_first = sorted(Level, key=lambda level: -level.rank)
    parts = [f"{levels[e]} {plural(levels[e], e.value)}" for e in worst_first if levels[e]]
    if parts and layers:
        parts[-1] += f" in {layers} {plural(layers, 'layer')}"
    return parts


def _failures(outcome: Outcome) -> list[str]:
    unmet, unreadable = sum(len(each.unmet) for each in outcome.checked), outcome.report.unreadable
    return _some(
        (unmet, f"required {plural(unmet, 'rule')} not assessed"),
        (len(unreadable), "unreadable"),
    )


def _others(outcome: Outcome) -> list[str]:
    skipped = len(outcome.report.skipped)
    return _some(
        (outcome.report.summary()["suppressed"], "suppressed"),
        (skipped, f"other {plural(skipped, 'file')} skipped"),
    )


def _some(*counted: tuple[int, str]) -> list[str]:
    return [f"{count} {what}" for count, what in counted if count]


def _more(groups: list[list[Group]]) -> str:
    """Where to read on about the finding that concerns the most layers."""
    every = [group for model in groups for group in model]
    if not every:
        return ""
    widest = max(every, key=lambda group: len(group.layers))
    return f". More: bncheck explain {widest.first.rule}"
