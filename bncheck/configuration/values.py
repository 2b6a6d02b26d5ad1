"""What a value of a configuration must be; each function raises ConfigurationError where not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

from bncheck.configuration.patterns import leads_out
from bncheck.configuration.settings import expand, rule_named, suggestion
from bncheck.errors import ConfigurationError
from bncheck.finding import Level

TYPES = {float: "a finite number", int: "an integer", bool: "true or false", str: "a string"}


def text(value: object) -> str:
    """A string that says something."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"must be a string, and not empty, not {value!r}")
    return value.strip()


def strings(value: object) -> tuple[str, ...]:
    """A list of strings."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigurationError(f"must be a list of strings, not {value!r}")
    return tuple(value)


def words(value: object) -> tuple[str, ...]:
    """A list of rule ids, names and prefixes."""
    found = strings(value)
    for word in found:
        expand(word)
    return found


def patterns(value: object) -> tuple[str, ...]:
    """A list of path patterns."""
    found = strings(value)
    for each in found:
        if leads_out(each):
            what = f"{each!r} leads out of the folder of this file"
            raise ConfigurationError(f"{what}; a pattern begins there, such as 'models/*.pt'")
    return found


def inner_path(value: object) -> str:
    """The path of a file below the folder of the configuration."""
    path = text(value)
    if leads_out(path):
        raise ConfigurationError(f"{path!r} leads out of the folder of this file")
    return path


def choice(known: Iterable[str]) -> Callable[[object], str]:
    """One of these words."""
    names = tuple(known)

    def parse(value: object) -> str:
        if value not in names:
            hint = suggestion(value, names) if isinstance(value, str) else ""
            raise ConfigurationError(f"must be one of {', '.join(names)}, not {value!r}{hint}")
        return str(value)

    return parse


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"must be true or false, not {value!r}")
    return value


def table(value: object) -> dict[str, Any]:
    """A table."""
    if not isinstance(value, dict):
        raise ConfigurationError(f"must be a table, not {value!r}")
    return value


_level = choice(Level)


def rule_levels(value: object) -> dict[str, Level]:
    """Levels by rule id, from a table by id or name."""
    return {rule_named(word).id: Level(_level(level)) for word, level in table(value).items()}


def rule_options(value: object) -> dict[str, dict[str, object]]:
    """Options by rule id, from a table of tables; validated against the checks' own signatures."""
    options: dict[str, dict[str, object]] = {}
    for word, held in table(value).items():
        rule = rule_named(word)
        known = rule.options
        for name, given in table(held).items():
            if name not in known:
                hint = suggestion(name, known) or f"; it has {', '.join(known) or 'none'}"
                raise ConfigurationError(f"{rule.id} has no option {name!r}{hint}")
            parsed = option_value(f"{rule.id}.{name}", given, known[name].annotation)
            options.setdefault(rule.id, {})[name] = parsed
    return options


def option_value(name: str, value: object, wanted: type) -> object:
    """A value for an option of this type; an integer will do for a float."""
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted or (isinstance(value, float) and not isfinite(value)):
        kind = TYPES.get(wanted, wanted.__name__)
        raise ConfigurationError(f"{name} must be {kind}, not {value!r}")
    return value
