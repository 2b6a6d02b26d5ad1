"""Reads the pages in rules/ and binds each to its check."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

from bncheck.facts import Evidence
from bncheck.finding import Level, Observation
from bncheck.model import KINDS, Kind

Check = Callable[..., Iterator[Observation]]
Scope = Literal["layer", "model"]
OWN = "bncheck.checks"
DELIMITER = "+++\n"
HEADINGS = (
    "What it finds",
    "Why it matters",
    "Example",
    "How to fix",
    "When to ignore",
    "References",
)


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule: its page's front matter, its text, and the check that it names.

    ``train_level`` stands in for ``level`` under the train profile. A finding is dropped where a
    rule of ``silenced_by`` has found its root cause at the same layer. ``package`` holds the check;
    ``pack`` names what a rule that is not bncheck's own came with.
    """

    id: str
    name: str
    level: Level
    kinds: frozenset[Kind]
    evidence: frozenset[Evidence]
    default: bool
    status: str
    since: str
    fix: str
    silenced_by: frozenset[str]
    train_level: Level | None
    check_name: str
    page: str
    package: str = OWN
    pack: str = ""

    def __reduce__(self) -> tuple[Callable[[str], Rule], tuple[str]]:
        """Another process takes it from its own catalogue."""
        return _by_id, (self.id,)

    @cached_property
    def check(self) -> Check:
        """The function behind the rule; it is imported on first use."""
        return _resolve(self.package, self.check_name)

    @cached_property
    def scope(self) -> Scope:
        """Whether the check is called for each layer or once for the model."""
        return cast(Scope, next(iter(inspect.signature(self.check).parameters)))

    @cached_property
    def wants_model(self) -> bool:
        """Whether a check of a layer asks for the layer's model too."""
        return self.scope == "layer" and "model" in inspect.signature(self.check).parameters

    def capped(self, level: Level, profile: str) -> Level:
        """A level of this rule's findings as the profile has it."""
        if profile != "train" or self.train_level is None:
            return level
        return min(level, self.train_level, key=lambda each: each.rank)

    @property
    def in_preview(self) -> bool:
        """Whether it runs only where it is asked for: by --preview, or by its id or name."""
        return self.status == "preview"

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """The check's options: its keyword-only parameters, with type and default."""
        parameters = inspect.signature(self.check, eval_str=True).parameters
        return {n: p for n, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    @property
    def summary(self) -> str:
        """The first paragraph of "What it finds", on one line."""
        _, _, rest = self.page.partition(f"## {HEADINGS[0]}\n")
        return " ".join(rest.strip().partition("\n\n")[0].split())

    @property
    def headline(self) -> str:
        """The summary up to its first stop."""
        return re.split(r"[.:;](?:\s|$)", self.summary, maxsplit=1)[0]


def parse(text: str, package: str = OWN, pack: str = "") -> Rule:
    """A rule from the text of its page. Raises ValueError or KeyError where the page is wrong."""
    _, front, page = text.split(DELIMITER, 2)
    fields: dict[str, Any] = tomllib.loads(front)
    train = fields.get("train")
    kinds = fields["kinds"]
    return Rule(
        id=fields["id"],
        name=fields["name"],
        level=Level(fields["level"]),
        kinds=frozenset(KINDS if kinds == "all" else kinds),
        evidence=frozenset(map(Evidence, fields["evidence"])),
        default=fields["default"],
        status=fields["status"],
        since=fields["since"],
        fix=fields["fix"],
        silenced_by=frozenset(fields.get("silenced_by", ())),
        train_level=Level(train) if train else None,
        check_name=fields["check"],
        page=page.strip(),
        package=package,
        pack=pack,
    )


@cache
def load() -> Mapping[str, Rule]:
    """All rules by id: bncheck's own in order of id, then those of packs.

    Raises ConfigurationError where a pack cannot be used.
    """
    from bncheck import packs

    return {**own(), **packs.rules()}


@cache
def own() -> Mapping[str, Rule]:
    """The rules that bncheck brings along, by id and in order of id."""
    pages = (path.read_text("utf-8") for path in sorted(_folder().glob("BN*.md")))
    return {rule.id: rule for rule in map(parse, pages)}


def find(word: str) -> Rule | None:
    """A rule by its id or name, whatever the case."""
    wanted = word.strip().lower()
    return next((r for r in load().values() if wanted in (r.id.lower(), r.name)), None)


def _by_id(id: str) -> Rule:
    return load()[id]


def _folder() -> Path:
    """rules/ lies in the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "rules"
    return installed if installed.is_dir() else package.parent / "rules"


def _resolve(package: str, name: str) -> Check:
    """``family:function`` inside the package, and nowhere else."""
    family, _, function = name.partition(":")
    if not family.isidentifier() or not function.isidentifier():
        raise ValueError(f"no check is named {name!r}")
    return cast(Check, getattr(import_module(f"{package}.{family}"), function))
