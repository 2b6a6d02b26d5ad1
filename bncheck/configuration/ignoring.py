"""The key ``ignore``: strings leave rules out, tables suppress what they find, for a reason.

TOML has one value under a key, so both stand in one list. ``[[tool.bncheck.ignore]]`` begins a
table of it; a rule that is left out among such tables is one of them, without files and layers.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from bncheck.acceptance.suppressions import Suppression
from bncheck.configuration import values
from bncheck.configuration.settings import expand_all, suggestion
from bncheck.errors import ConfigurationError


def ignored(value: object) -> dict[str, object]:
    """The fields ``ignore`` and ``suppressions`` of Settings. Raises ConfigurationError."""
    if not isinstance(value, list):
        raise ConfigurationError(f"must be a list of strings and tables, not {value!r}")
    tables = [each for each in value if isinstance(each, dict)]
    return {
        "ignore": values.words([each for each in value if not isinstance(each, dict)]),
        "suppressions": tuple(_suppression(held, at) for at, held in enumerate(tables, 1)),
    }


def _suppression(held: dict[str, Any], number: int) -> Suppression:
    try:
        fields = _fields(held)
    except ConfigurationError as error:
        raise ConfigurationError(f"table {number}: {error}") from None
    return Suppression(rules=expand_all(fields["words"]), number=number, **fields)


def _fields(held: dict[str, Any]) -> dict[str, Any]:
    for key in held:
        if key not in KEYS:
            hint = suggestion(key, KEYS) or f"; it may have {', '.join(KEYS)}"
            raise ConfigurationError(f"unknown key {key!r}{hint}")
    for key in REQUIRED:
        if key not in held:
            raise ConfigurationError(f"{key} is missing: {REQUIRED[key]}")
    return {KEYS[key][0]: _parsed(key, value) for key, value in held.items()}


def _parsed(key: str, value: object) -> object:
    try:
        return KEYS[key][1](value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{key}: {error}") from None


def _one_or_more(parse: Callable[[object], tuple[str, ...]]) -> Callable[[object], tuple[str, ...]]:
    def parsed(value: object) -> tuple[str, ...]:
        found = parse([value] if isinstance(value, str) else value)
        if not found:
            raise ConfigurationError("must hold something, or be left out")
        return found

    return parsed


def _day(value: object) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ConfigurationError(f"must be a date such as 2030-12-31, not in quotes, not {value!r}")
    return value


REQUIRED = {"rules": "which rules it is for", "reason": "say why this is right"}
KEYS: dict[str, tuple[str, Callable[[object], object]]] = {
    "rules": ("words", _one_or_more(values.words)),
    "files": ("files", _one_or_more(values.patterns)),
    "layers": ("layers", _one_or_more(values.strings)),
    "reason": ("reason", values.text),
    "expires": ("expires", _day),
}
