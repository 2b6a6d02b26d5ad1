"""The text report of one model: what it is, what is wrong with it, what stays open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bncheck.finding import Finding, Level
from bncheck.report import Unreadable
from bncheck.reports.contents import contents, plural
from bncheck.reports.grouping import Gap, Group, by_reason, count_by_name, grouped
from bncheck.reports.layout import Word, fill, layer_name, listed, model_name, name, words
from bncheck.reports.summary import summary
from bncheck.reports.unassessed import said
from bncheck.reports.verdict import OK, Style, live, telling_gaps, verdict
from bncheck.running.outcome import Checked, Outcome

STYLES = {Level.ERROR: "bold red", Level.WARNING: "bold yellow", Level.INFO: "bold cyan"}
NAMED_LAYERS = 3
INDENT, DEEP = "  ", "    "


def render(outcome: Outcome, style: Style) -> str:
    """All models, what could not be read, and the summary."""
    return "".join(_texts(outcome, style)) + summary(outcome, style)


def _texts(outcome: Outcome, style: Style) -> Iterator[str]:
    for each in outcome.entries:
        if isinstance(each, Checked):
            yield entry(each, style)
        elif isinstance(each, Unreadable):
            yield unreadable(each, style)


def entry(checked: Checked, style: Style) -> str:
    """The lines about one model, each ended."""
    return "".join(_Entry(checked, style).lines())


def unreadable(file: Unreadable, style: Style) -> str:
    """The line about a file that could not be checked."""
    verdict_words = words("unreadable", "bold red", apart=True)
    reason = words(file.error, apart=True)
    return fill([name(file.path, "bold"), *verdict_words, *reason], "", DEEP, style.paint)


class _Entry(NamedTuple):
    checked: Checked
    style: Style

    def lines(self) -> Iterator[str]:
        yield self._head()
        yield from self._profile()
        for group in grouped(filter(self.style.is_listed, live(self.checked))):
            yield from self._finding(group)
        yield from self._counted()
        yield from self._suppressed()
        for each in self.checked.unmet:
            yield self._unmet(each.rule)
        for gap in telling_gaps(self.checked, self.style):
            yield self._gap(gap)

    def _fill(self, content: Iterable[Word], first: str, rest: str = DEEP) -> str:
        return fill(content, first, rest, self.style.paint)

    def _head(self) -> str:
        model = self.checked.report.model
        judged = verdict(self.checked, self.style)
        what = contents(model)
        if judged == OK:
            ran = len(self.checked.report.assessment.assessed)
            also = " else" if self._accepted else ""
            what += [f"{ran} {plural(ran, 'rule')}", f"nothing{also} wrong"]
        verdict_word = [name(judged, "green", apart=True)] if judged else []
        named = model_name(self.checked.report.path, model.member)
        return self._fill([*named, *verdict_word, *listed(what, apart=True)], "")

    def _profile(self) -> Iterator[str]:
        assessment = self.checked.report.assessment
        if assessment.profile == "train" and self.checked.plan.policy.profile == "auto":
            yield self._fill(words(f"profile train: {assessment.profile_reason}"), INDENT)

    def _finding(self, group: Group) -> Iterator[str]:
        first = group.first
        level = Word(first.level.value, STYLES[first.level])
        yield self._fill([level, Word(first.rule), Word(first.name), *_where(group)], INDENT)
        example = "For example: " if group.is_example else ""
        yield self._fill(words(example + first.message), DEEP)
        if first.fix:
            yield self._fill([Word("Fix:", "bold"), *words(first.fix)], DEEP, DEEP + "     ")

    def _counted(self) -> Iterator[str]:
        counts = count_by_name(f for f in live(self.checked) if not self.style.is_listed(f))
        if counts:
            text = ", ".join(f"{count} {rule}" for rule, count in counts.items())
            label = Word("info:", STYLES[Level.INFO])
            yield self._fill([label, *words(text), name("(--show info)")], INDENT)

    @property
    def _accepted(self) -> list[Finding]:
        return [f for f in self.checked.report.assessment.findings if f.suppressed]

    def _suppressed(self) -> Iterator[str]:
        label = Word("suppressed:", "dim")
        if not self.style.show_info and self._accepted:
            counts = count_by_name(self._accepted).items()
            text = ", ".join(f"{count} {rule}" for rule, count in counts)
            yield self._fill([label, *words(text), name("(--show info)")], INDENT)
            return
        for group in by_reason(self._accepted):
            where = [Word(group.first.rule), Word(group.first.name), *_where(group)]
            yield self._fill([label, *where], INDENT)
            yield self._fill(words(group.first.suppression), DEEP)

    def _unmet(self, rule: str) -> str:
        named = next(each for each in self.checked.plan.rules if each.id == rule)
        label = Word("required", STYLES[Level.ERROR])
        open_still = name("was not assessed", apart=True)
        return self._fill([label, Word(rule), Word(named.name), open_still], INDENT)

    def _gap(self, gap: Gap) -> str:
        label = Word("not assessed:", "dim")
        return self._fill([label, *words(said(gap, self.checked, self.style))], INDENT)


def _where(group: Group) -> list[Word]:
    layers = [layer_name(layer) for layer in group.layers]
    if len(layers) <= 1:
        return [name(layer, apart=True) for layer in layers]
    count = name(f"{len(layers)} layers:", apart=True)
    if len(layers) <= NAMED_LAYERS:
        return [count, *listed(layers)]
    shown = layers[: NAMED_LAYERS - 1]
    return [count, *listed([*shown, f"... +{len(layers) - len(shown)}"])]
