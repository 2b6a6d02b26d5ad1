"""Configuration files: ``[tool.bncheck]`` in pyproject.toml, or bncheck.toml.

The file closest to a checked path counts, alone: nothing is merged. A configuration chooses and
tunes rules; it never names code.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

from bncheck.errors import ConfigurationError
from bncheck.finding import Level
from bncheck.settings import (
    FAIL_ON,
    PROFILES,
    SHOW,
    Settings,
    expand,
    rule_named,
    suggestion,
)

OWN = "bncheck.toml"
SHARED = "pyproject.toml"


class Configurations:
    """Finds the settings that hold for a folder, reading each file once."""

    def __init__(self, override: Path | None = None) -> None:
        self._override = read(override) if override else None
        self._found: dict[Path, Settings] = {}

    def of(self, folder: Path) -> Settings:
        """The settings of the closest file at or above a folder; empty where there is none.

        Raises ConfigurationError for a file that cannot be used.
        """
        if self._override:
            return self._override
        folder = Path(os.path.abspath(folder))  # noqa: PTH100 (".." must not count as a parent)
        passed = []
        for place in (folder, *folder.parents):
            passed.append(place)
            settings = self._found.get(place) or _in(place)
            if settings:
                break
        else:
            settings = Settings()
        self._found.update(dict.fromkeys(passed, settings))
        return settings


def _in(folder: Path) -> Settings | None:
    own, shared = folder / OWN, folder / SHARED
    if _is_file(own):
        return read(own)
    table = _table_of(shared, _load(shared)) if _is_file(shared) else None
    return None if table is None else _settings(shared, table)


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises where a folder is closed)


def read(file: Path) -> Settings:
    """The settings of one file. Raises ConfigurationError naming the file and the key."""
    table = _table_of(file, _load(file))
    if table is None:
        raise ConfigurationError(f"{_shown(file)}: has no [tool.bncheck]")
    return _settings(file, table)


def _load(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{_shown(file)}: {str(error.strerror).lower()}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigurationError(f"{_shown(file)}: is no valid TOML: {error}") from error


def _shown(file: Path) -> Path:
    """A file as one would call it from the current folder."""
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def _table_of(file: Path, document: dict[str, Any]) -> dict[str, Any] | None:
    """A file of another name may be either; [tool.bncheck] tells."""
    tool = document.get("tool")
    table = tool.get("bncheck") if isinstance(tool, dict) else None
    if table is None and file.name != SHARED and tool is None:
        return document
    if table is not None and not isinstance(table, dict):
        raise ConfigurationError(f"{_shown(file)}: tool.bncheck: must be a table")
    return table


def _settings(file: Path, table: dict[str, Any]) -> Settings:
    fields: dict[str, Any] = {"file": file}
    for key, value in table.items():
        if key not in _KEYS:
            hint = suggestion(key, _KEYS)
            raise ConfigurationError(f"{_shown(file)}: unknown key {key!r}{hint}")
        field, parse = _KEYS[key]
        try:
            fields[field] = parse(value)
        except ConfigurationError as error:
            raise ConfigurationError(f"{_shown(file)}: {key}: {error}") from None
    return Settings(**fields)


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigurationError(f"must be a list of strings, not {value!r}")
    return tuple(value)


def _words(value: object) -> tuple[str, ...]:
    words = _strings(value)
    for word in words:
        expand(word)
    return words


def _choice(known: Iterable[str]) -> Callable[[object], str]:
    names = tuple(known)

    def parse(value: object) -> str:
        if value not in names:
            hint = suggestion(value, names) if isinstance(value, str) else ""
            raise ConfigurationError(f"must be one of {', '.join(names)}, not {value!r}{hint}")
        return str(value)

    return parse


_level = _choice(Level)


def rule_levels(value: object) -> dict[str, Level]:
    """Levels by rule id, from a table by id or name. Raises ConfigurationError."""
    return {rule_named(word).id: Level(_level(level)) for word, level in _table(value).items()}


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"must be true or false, not {value!r}")
    return value


def _assume_eval(value: object) -> bool | tuple[str, ...]:
    return value if isinstance(value, bool) else _strings(value)


def rule_options(value: object) -> dict[str, dict[str, object]]:
    """Options by rule id, from a table of tables; validated against the checks' own signatures.

    Raises ConfigurationError for an unknown rule or option, or a value of another type.
    """
    options: dict[str, dict[str, object]] = {}
    for word, table in _table(value).items():
        rule = rule_named(word)
        known = rule.options
        for name, given in _table(table).items():
            if name not in known:
                hint = suggestion(name, known) or f"; it has {', '.join(known) or 'none'}"
                raise ConfigurationError(f"{rule.id} has no option {name!r}{hint}")
            parsed = option_value(f"{rule.id}.{name}", given, known[name].annotation)
            options.setdefault(rule.id, {})[name] = parsed
    return options


def option_value(name: str, value: object, wanted: type) -> object:
    """A value for an option of this type; an integer will do for a float.

    Raises ConfigurationError where it does not fit.
    """
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted or (isinstance(value, float) and not isfinite(value)):
        kind = _TYPES.get(wanted, wanted.__name__)
        raise ConfigurationError(f"{name} must be {kind}, not {value!r}")
    return value


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"must be a table, not {value!r}")
    return value


_TYPES = {float: "a finite number", int: "an integer", bool: "true or false", str: "a string"}
_KEYS: dict[str, tuple[str, Callable[[object], object]]] = {
    "select": ("select", _words),
    "ignore": ("ignore", _words),
    "require": ("require", _words),
    "profile": ("profile", _choice(PROFILES)),
    "preview": ("preview", _flag),
    "fail-on": ("fail_on", _choice(FAIL_ON)),
    "show": ("show", _choice(SHOW)),
    "level": ("levels", rule_levels),
    "assume-eval": ("assume_eval", _assume_eval),
    "rules": ("options", rule_options),
}


def assumed_eval(settings: Settings, path: Path) -> str | None:
    """Where the user asserts that the loader of this model calls eval(); None where nowhere."""
    if settings.file is None or not settings.assume_eval:
        return None
    if settings.assume_eval is not True and not _matches(settings, path):
        return None
    return f"assume-eval in {settings.file.name}"


def _matches(settings: Settings, path: Path) -> bool:
    """Whether a pattern means the path itself or a folder above it."""
    assert settings.file is not None and not isinstance(settings.assume_eval, bool)
    base = Path(os.path.realpath(settings.file.parent))
    real = Path(os.path.realpath(path.parent)) / path.name
    if not real.is_relative_to(base):
        return False
    parts = real.relative_to(base).parts
    globs = (PurePosixPath(glob.replace("\\", "/")).parts for glob in settings.assume_eval)
    return any(_starts_with(parts, glob) for glob in globs)


def _starts_with(parts: Sequence[str], glob: Sequence[str]) -> bool:
    """Whether a pattern matches the first parts of a path; ``**`` stands for any number."""
    if not glob:
        return True
    if glob[0] == "**":
        return any(_starts_with(parts[skip:], glob[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], glob[0]) and _starts_with(parts[1:], glob[1:])
