"""bncheck explain and bncheck rules: what the catalogue says."""

from __future__ import annotations

from collections.abc import Iterable
from shutil import get_terminal_size

from bncheck import catalogue, console
from bncheck.catalogue import Rule
from bncheck.configuration.settings import rule_named


def explain(words: Iterable[str]) -> int:
    """Print the pages of rules; 0. Raises ConfigurationError for an unknown one."""
    from bncheck.reports.page import page

    pages = [page(rule_named(word), console.paint()) for word in words]
    console.write("\n\n".join(pages))
    return 0


def rules(form: str) -> int:
    """Print all rules; 0."""
    known = catalogue.load().values()
    console.write(_as_json(known) if form == "json" else _as_table(known))
    return 0


def _as_table(known: Iterable[Rule]) -> str:
    from bncheck.reports import table

    return table.rules(known, get_terminal_size().columns)


def _as_json(known: Iterable[Rule]) -> str:
    from bncheck.reports.json import dump

    return dump([_entry(rule) for rule in known])


def _entry(rule: Rule) -> dict[str, object]:
    return {
        "id": rule.id,
        "name": rule.name,
        "level": rule.level.value,
        "train_level": rule.train_level.value if rule.train_level else None,
        "kinds": sorted(rule.kinds),
        "evidence": sorted(rule.evidence),
        "default": rule.default,
        "status": rule.status,
        "since": rule.since,
        "pack": rule.pack or None,
        "options": {name: option.default for name, option in rule.options.items()},
        "summary": rule.summary,
        "fix": rule.fix,
    }
