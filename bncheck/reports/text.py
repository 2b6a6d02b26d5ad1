"""The text report of one model: what it is, what is wrong with it, what stays open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bncheck.finding import Level
from bncheck.outcome import Checked
from bncheck.report import Unreadable
from bncheck.reports.contents import contents, plural
from bncheck.reports.grouping import Gap, Group, count_by_name, grouped, ranges
from bncheck.reports.layout import Word, fill, layer_name, listed, model_name, name, words
from bncheck.reports.verdict import OK, PARTLY, Style, live, open_gates, telling_gaps, verdict

STYLES = {Level.ERROR: "bold red", Level.WARNING: "bold yellow", Level.INFO: "bold cyan"}
NAMED_LAYERS = 3
NAMED_RANGES = 4
INDENT, DEEP = "  ", "    "


def entry(checked: Checked, style: Style) -> str:
    """The lines about one model, each ended."""
    return "".join(_Entry(checked, style).lines())


def unreadable(file: Unreadable, style: Style) -> str:
    """The line about a file that could not be checked."""
    said = words("unreadable", "bold red", apart=True)
    reason = words(file.error, apart=True)
    return fill([name(file.path, "bold"), *said, *reason], "", DEEP, style.paint)


class _Entry(NamedTuple):
    checked: Checked
    style: Style

    def lines(self) -> Iterator[str]:
        yield self._head()
        yield from self._profile()
        for group in grouped(filter(self.style.is_listed, live(self.checked))):
            yield from self._finding(group)
        yield from self._counted()
        for each in self.checked.unmet:
            yield self._unmet(each.rule)
        for gap in telling_gaps(self.checked, self.style):
            yield self._gap(gap)

    def _fill(self, content: Iterable[Word], first: str, rest: str = DEEP) -> str:
        return fill(content, first, rest, self.style.paint)

    def _head(self) -> str:
        model = self.checked.report.model
        said = verdict(self.checked, self.style)
        what = contents(model)
        if said == OK:
            ran = len(self.checked.report.assessment.assessed)
            what += [f"{ran} {plural(ran, 'rule')}", "nothing wrong"]
        verdict_word = [name(said, "green", apart=True)] if said else []
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

    def _unmet(self, rule: str) -> str:
        named = next(each for each in self.checked.plan.rules if each.id == rule)
        label = Word("required", STYLES[Level.ERROR])
        said = name("was not assessed", apart=True)
        return self._fill([label, Word(rule), Word(named.name), said], INDENT)

    def _gap(self, gap: Gap) -> str:
        within = f" in {gap.layers} {plural(gap.layers, 'layer')}" if gap.layers else ""
        rules = _shortened(ranges(gap.rules), NAMED_RANGES, self.style.show_info)
        said = f"{', '.join(gap.facts)} ({rules}){within}: {gap.why.rstrip('.')}."
        label = Word("not assessed:", "dim")
        return self._fill([label, *words(said), *words(self._advice(gap))], INDENT)

    def _advice(self, gap: Gap) -> str:
        """What to give instead, and how to make sure of it where only that keeps it from ok."""
        gates = [rule for rule in open_gates(self.checked, self.style) if rule in gap.rules]
        if not gap.instead or not gates or verdict(self.checked, self.style) != PARTLY:
            return _sentence(gap.instead)
        return _sentence(f"{gap.instead.rstrip('.')}, or gate with --require {gates[0]}")


def _where(group: Group) -> list[Word]:
    layers = [layer_name(layer) for layer in group.layers]
    if len(layers) <= 1:
        return [name(layer, apart=True) for layer in layers]
    count = name(f"{len(layers)} layers:", apart=True)
    if len(layers) <= NAMED_LAYERS:
        return [count, *listed(layers)]
    shown = layers[: NAMED_LAYERS - 1]
    return [count, *listed([*shown, f"... +{len(layers) - len(shown)}"])]


def _shortened(parts: list[str], limit: int, everything: bool) -> str:
    if everything or len(parts) <= limit:
        return ", ".join(parts)
    return ", ".join((*parts[: limit - 1], "..."))


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return f"{text[0].upper()}{text[1:]}." if text else ""
