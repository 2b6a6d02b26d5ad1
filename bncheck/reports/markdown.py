"""Markdown for a job's summary, a comment or a wiki, in GitHub's flavour.

Names are code; whatever else may come from a file is text that formats, links and mentions nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bncheck.acceptance.accepted import notices
from bncheck.finding import Level
from bncheck.report import Unreadable
from bncheck.reports.contents import contents, plural
from bncheck.reports.grouping import Group, count_by_name, grouped
from bncheck.reports.identity import relative
from bncheck.reports.layout import layer_name, plain, printable, shortened
from bncheck.reports.summary import summary
from bncheck.reports.unassessed import said
from bncheck.reports.verdict import Style, live, telling_gaps, verdict
from bncheck.running.outcome import Checked, Outcome

MARKS = {Level.ERROR: "❌ error", Level.WARNING: "⚠️ warning", Level.INFO: "ℹ️ info"}  # noqa: RUF001
NAMED_LAYERS = 3
SPECIAL = re.compile(r"[\\`*{}\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")  # a_b is no emphasis
REFERENCE = re.compile(r"@|#(?=\w)|:(?=//)|www(?=\.)|GH(?=-)")  # a mention, an issue, an address
JOINER = "\u2060"  # has no width, and ends what would be a reference
SIMPLE = re.compile(r"[\w./:(),+\- ]*\w[\w./:(),+\-]*|\(root\)")


def render(outcome: Outcome, style: Style, limit: int | None = None) -> str:
    """The run under one heading, a section for each model; at most so many bytes."""
    line = " ".join(summary(outcome, style._replace(paint=plain)).split())
    head = f"## bncheck\n\n{escaped(line or 'Nothing wrong.')}\n"
    every = [head, *_sections(outcome, style)]
    return "".join(every if limit is None else _within(every, limit))


def _within(sections: Iterable[str], limit: int) -> Iterator[str]:
    note = "\nThere is more than fits here: see the full report.\n"
    left = limit - len(note)
    for section in sections:
        left -= len(section.encode())
        if left < 0:
            yield note
            return
        yield section


def _sections(outcome: Outcome, style: Style) -> Iterator[str]:
    """What needs a word first; then all models that do not, in a list."""
    quiet: list[str] = []
    for entry in outcome.entries:
        if isinstance(entry, Unreadable):
            yield f"\n### ❌ {code(relative(entry.path))}\n\nUnreadable: {escaped(entry.error)}\n"
        elif isinstance(entry, Checked):
            body, counted = "\n".join(_body(entry, style)), _counted(entry, style)
            if body:
                more = f"\n*Not listed:* {escaped(counted)}\n" if counted else ""
                yield f"\n### {_title(entry, style)}\n\n{body}{more}"
            else:
                more = f" ({escaped(counted)})" if counted else ""
                quiet.append(f"- {_title(entry, style)}{more}\n")
    if quiet:
        yield "\n" + "".join(quiet)
    yield from (f"\n*Note:* {escaped(notice)}\n" for notice in notices(outcome.notes))


def _title(checked: Checked, style: Style) -> str:
    model, judged = checked.report.model, verdict(checked, style)
    member = f" [{code(model.member)}]" if model.member else ""
    what = ", ".join([*([judged] if judged else []), *contents(model)])
    return f"{_mark(checked, style)} {code(relative(checked.report.path))}{member}: {escaped(what)}"


def _mark(checked: Checked, style: Style) -> str:
    worst = max((f.level.rank for f in live(checked) if style.is_wrong(f)), default=-1)
    if worst == Level.ERROR.rank or checked.unmet:
        return "❌"
    return "⚠️" if worst >= 0 else "✅"


def _body(checked: Checked, style: Style) -> Iterator[str]:
    """Paragraphs and a table, each ended by a line end."""
    groups = grouped(filter(style.is_listed, live(checked)))
    if groups:
        head = "| level | rule | where | what |\n|---|---|---|---|\n"
        yield head + "".join(map(_row, groups))
    for each in checked.unmet:
        yield f"**{escaped(each.rule)} is required and was not assessed.**\n"
    for gap in telling_gaps(checked, style):
        yield f"*Not assessed:* {escaped(said(gap, checked, style))}\n"


def _row(group: Group) -> str:
    first = group.first
    example = "For example: " if group.is_example else ""
    fix = f"<br>**Fix:** {escaped(first.fix)}" if first.fix else ""
    what = f"{example}{escaped(first.message)}{fix}"
    rule = f"{escaped(first.rule)} {escaped(first.name)}"
    return f"| {MARKS[first.level]} | {rule} | {_where(group.layers)} | {what} |\n"


def _where(layers: tuple[str, ...]) -> str:
    names = [code(layer_name(layer)) for layer in layers[:NAMED_LAYERS]]
    more = len(layers) - len(names)
    return ", ".join([*names, f"and {more} more"] if more else names)


def _counted(checked: Checked, style: Style) -> str:
    findings = checked.report.assessment.findings
    infos = count_by_name(f for f in findings if not f.suppressed and not style.is_listed(f))
    counts = [f"{count} {name}" for name, count in infos.items()]
    suppressed = sum(finding.suppressed for finding in findings)
    if suppressed:
        counts.append(f"{suppressed} suppressed {plural(suppressed, 'finding')}")
    return ", ".join(counts)


def code(text: str) -> str:
    """A name as code, whatever it is made of."""
    shown = shortened(text)
    return f"`{shown}`" if SIMPLE.fullmatch(shown) else f"<code>{escaped(shown)}</code>"


def escaped(text: str) -> str:
    """Text that means itself in Markdown, also in a table."""
    loose = REFERENCE.sub(lambda found: found[0] + JOINER, printable(text))
    return SPECIAL.sub(lambda found: f"&#{ord(found[0])};", loose)
