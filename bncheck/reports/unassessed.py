"""What could not be assessed, in a sentence: what is missing, for which rules, why."""

from __future__ import annotations

from bncheck.reports.contents import plural
from bncheck.reports.grouping import Gap, ranges
from bncheck.reports.verdict import PARTLY, Style, open_gates, verdict
from bncheck.running.outcome import Checked

NAMED_RANGES = 4


def said(gap: Gap, checked: Checked, style: Style) -> str:
    """What is missing and what to give instead, as much of it as the style asks for."""
    limit = None if style.show_info else NAMED_RANGES
    return f"{sentence(gap, limit)} {_advice(gap, checked, style)}".rstrip()


def sentence(gap: Gap, limit: int | None = None) -> str:
    """For example ``mode, eps (BN101-106): a state_dict holds none.``, with so many ranges."""
    within = f" in {gap.layers} {plural(gap.layers, 'layer')}" if gap.layers else ""
    rules = _shortened(ranges(gap.rules), limit)
    return f"{', '.join(gap.facts)} ({rules}){within}: {gap.why.rstrip('.')}."


def _advice(gap: Gap, checked: Checked, style: Style) -> str:
    """What to give instead, and how to make sure of it where only that keeps it from ok."""
    gates = [rule for rule in open_gates(checked, style) if rule in gap.rules]
    if not gap.instead or not gates or verdict(checked, style) != PARTLY:
        return _sentence(gap.instead)
    return _sentence(f"{gap.instead.rstrip('.')}, or gate with --require {gates[0]}")


def _shortened(parts: list[str], limit: int | None) -> str:
    if limit is None or len(parts) <= limit:
        return ", ".join(parts)
    return ", ".join((*parts[: limit - 1], "..."))


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return f"{text[0].upper()}{text[1:]}." if text else ""
