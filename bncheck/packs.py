"""Rules that are not bncheck's own: of installed packages, and of folders that a user names.

A pack is a package whose folder holds pages, named like AC101-some-rule.md, and the modules of
their checks. An installed one is announced by the entry point group ``bncheck.rules``. A folder is
loaded only for a flag that says so: its code runs, so no configuration can ask for it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from bncheck import catalogue
from bncheck.catalogue import DELIMITER, Rule
from bncheck.errors import ConfigurationError

GROUP = "bncheck.rules"
PAGE = re.compile(r"[A-Z]{2,8}\d{1,4}-[a-z0-9-]+\.md")
OPTION_TYPES = (float, int, bool, str)
PREFIX = "bncheck_rules_"  # of the modules that folders are given


class Pack(NamedTuple):
    """Rules that came together: an installed distribution, or a folder without a version."""

    name: str
    version: str | None
    rules: tuple[Rule, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.version}" if self.version else self.name

    def to_dict(self) -> dict[str, object]:
        """An entry of ``tool.packs`` in JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "source": "installed" if self.version else "folder",
            "rules": [rule.id for rule in self.rules],
        }


_folders: list[str] = []  # that the command line named


def use(folder: str | Path) -> None:
    """Add the rules of a folder, running its code. Raises ConfigurationError."""
    if str(folder) not in _folders:
        _folders.append(str(folder))
        _forget_loaded()
    try:
        catalogue.load()
    except ConfigurationError:
        forget()
        raise


def forget() -> None:
    """Take the rules of all folders out again."""
    _folders.clear()
    _forget_loaded()
    for name in [name for name in sys.modules if name.startswith(PREFIX)]:
        del sys.modules[name]


def folders() -> tuple[str, ...]:
    """The folders in use."""
    return tuple(_folders)


def _forget_loaded() -> None:
    loaded.cache_clear()
    catalogue.load.cache_clear()


def rules() -> Mapping[str, Rule]:
    """The rules of all packs by id. Raises ConfigurationError for one that cannot be used."""
    found: dict[str, Rule] = {}
    taken = {word: "bncheck" for rule in catalogue.own().values() for word in (rule.id, rule.name)}
    for pack in loaded():
        for rule in pack.rules:
            for word in (rule.id, rule.name):
                other = taken.setdefault(word, pack.name)
                if other != pack.name or rule.id in found:
                    raise ConfigurationError(f"rules of {pack.name}: {other} has {word} already")
            found[rule.id] = rule
    return found


@cache
def loaded() -> tuple[Pack, ...]:
    """All packs, the installed ones first. Raises ConfigurationError."""
    named = (_of_folder(Path(folder), at) for at, folder in enumerate(_folders))
    return (*_installed(), *named)


def _of_folder(folder: Path, at: int) -> Pack:
    if not folder.is_dir():
        raise ConfigurationError(f"rules of {folder}: there is no such folder")
    package = ModuleType(f"{PREFIX}{at}")
    package.__path__ = [os.path.abspath(folder)]  # noqa: PTH100 (for the import system)
    sys.modules[package.__name__] = package
    return Pack(str(folder), None, _rules(str(folder), package.__name__, folder))


def _installed() -> Iterator[Pack]:
    places = _places()
    if not any(map(_announces, places)):
        return
    from importlib.metadata import distributions

    seen = set()
    for distribution in distributions(path=places):
        name = distribution.name
        if name not in seen:  # the first on the path is the one that is imported
            seen.add(name)
            packages = [e.value for e in distribution.entry_points if e.group == GROUP]
            rules = tuple(rule for package in packages for rule in _of_package(name, package))
            if packages:
                yield Pack(name, distribution.version, rules)


def _places() -> list[str]:
    """Where packages are installed; the current folder is none, it may be what is checked."""
    here = os.path.realpath(".")
    return [place for place in sys.path if place and os.path.realpath(place) != here]


def _announces(place: str) -> bool:
    """Whether a package there names the group; quicker than importlib.metadata's whole answer."""
    try:
        with os.scandir(place) as entries:
            found = [e.path for e in entries if e.name.endswith((".dist-info", ".egg-info"))]
    except OSError:  # a zip file, or nothing
        return False
    return any(GROUP.encode() in _content(f"{each}{os.sep}entry_points.txt") for each in found)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (hundreds of them)
            return file.read()
    except OSError:
        return b""


def _of_package(name: str, package: str) -> tuple[Rule, ...]:
    from importlib.util import find_spec

    try:
        spec = find_spec(package)
    except Exception as error:
        raise ConfigurationError(f"rules of {name}: {_one_line(error)}") from error
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(f"rules of {name}: {package!r} is no package")
    return _rules(name, package, Path(next(iter(spec.submodule_search_locations))))


def _rules(name: str, package: str, folder: Path) -> tuple[Rule, ...]:
    pages = sorted(path for path in folder.glob("*.md") if PAGE.fullmatch(path.name))
    if not pages:
        what = "holds no pages of rules, such as AC101-some-name.md"
        raise ConfigurationError(f"rules of {name}: {folder} {what}")
    return tuple(_rule(name, package, path) for path in pages)


def _rule(name: str, package: str, path: Path) -> Rule:
    try:
        rule = catalogue.parse(path.read_text("utf-8").replace("\r\n", "\n"), package, name)
        _require(path, rule)
    except Exception as error:  # of their page, or of their code when it is imported
        raise ConfigurationError(f"rules of {name}: {path.name}: {_one_line(error)}") from error
    return rule


def _require(path: Path, rule: Rule) -> None:
    """What bncheck's own rules are tested for. Raises ValueError."""
    if path.stem != f"{rule.id}-{rule.name}":
        raise ValueError(f"is the page of {rule.id} {rule.name}")
    if rule.id.startswith("BN"):
        raise ValueError("ids that begin with BN are bncheck's own")
    if rule.scope not in ("layer", "model"):
        raise ValueError(f"the first parameter of {rule.check_name} must be layer or model")
    for option, parameter in rule.options.items():
        if parameter.annotation not in OPTION_TYPES or parameter.default is parameter.empty:
            raise ValueError(f"option {option} must be a float, int, bool or str with a default")


def _one_line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing between the {DELIMITER.strip()} lines"
    if type(error) is ValueError:
        return str(error)
    return f"{type(error).__name__}: {error}".partition("\n")[0]
