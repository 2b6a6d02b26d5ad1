"""Configuration files: ``[tool.bncheck]`` in pyproject.toml, or bncheck.toml.

The file closest to a checked path counts, alone: nothing is merged. A configuration chooses and
tunes rules; it never names code.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bncheck.configuration import values
from bncheck.configuration.patterns import matches
from bncheck.configuration.settings import FAIL_ON, PROFILES, SHOW, Settings, suggestion
from bncheck.errors import ConfigurationError

Parse = Callable[[object], object]
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


def existing(folder: Path) -> Path | None:
    """The configuration that a folder itself holds, whatever is in it."""
    own, shared = folder / OWN, folder / SHARED
    if os.path.lexists(own):
        return own
    if _is_file(shared) and _table_of(shared, _load(shared)) is not None:
        return shared
    return None


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises where a folder is closed)


def read(file: Path) -> Settings:
    """The settings of one file. Raises ConfigurationError naming the file and the key."""
    table = _table_of(file, _load(file))
    if table is None:
        raise ConfigurationError(f"{shown(file)}: has no [tool.bncheck]")
    return _settings(file, table)


def _load(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{shown(file)}: {str(error.strerror).lower()}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigurationError(f"{shown(file)}: is no valid TOML: {error}") from error


def shown(file: Path) -> Path:
    """A file as one would call it from the current folder."""
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def _table_of(file: Path, document: dict[str, Any]) -> dict[str, Any] | None:
    """A file of another name may be either; [tool.bncheck] tells."""
    tool = document.get("tool")
    table = tool.get("bncheck") if isinstance(tool, dict) else None
    if table is None and file.name != SHARED and tool is None:
        return document
    if table is not None and not isinstance(table, dict):
        raise ConfigurationError(f"{shown(file)}: tool.bncheck: must be a table")
    return table


def _settings(file: Path, table: dict[str, Any]) -> Settings:
    fields: dict[str, Any] = {"file": file}
    for key, value in table.items():
        if key not in KEYS:
            hint = suggestion(key, KEYS)
            raise ConfigurationError(f"{shown(file)}: unknown key {key!r}{hint}")
        try:
            fields |= KEYS[key](value)
        except ConfigurationError as error:
            raise ConfigurationError(f"{shown(file)}: {key}: {error}") from None
    return Settings(**fields)


def _assume_eval(value: object) -> bool | tuple[str, ...]:
    return value if isinstance(value, bool) else values.patterns(value)


def _ignored(value: object) -> dict[str, object]:
    from bncheck.configuration.ignoring import ignored

    return ignored(value)


def _one(field: str, parse: Parse) -> Callable[[object], dict[str, object]]:
    return lambda value: {field: parse(value)}


# What each key is to Settings.
KEYS: dict[str, Callable[[object], dict[str, object]]] = {
    "select": _one("select", values.words),
    "ignore": _ignored,
    "require": _one("require", values.words),
    "profile": _one("profile", values.choice(PROFILES)),
    "preview": _one("preview", values.flag),
    "fail-on": _one("fail_on", values.choice(FAIL_ON)),
    "show": _one("show", values.choice(SHOW)),
    "level": _one("levels", values.rule_levels),
    "assume-eval": _one("assume_eval", _assume_eval),
    "baseline": _one("baseline", values.inner_path),
    "rules": _one("options", values.rule_options),
}


def assumed_eval(settings: Settings, path: Path) -> str | None:
    """Where the user asserts that the loader of this model calls eval(); None where nowhere."""
    asserted, file = settings.assume_eval, settings.file
    if file is None:
        return None
    holds = asserted if isinstance(asserted, bool) else matches(asserted, file.parent, path)
    return f"assume-eval in {file.name}" if holds else None
