"""What a user may decide, layer upon layer, and the rules and policy that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from bncheck import catalogue
from bncheck.catalogue import Rule
from bncheck.engine import Policy
from bncheck.errors import ConfigurationError
from bncheck.finding import Level

if TYPE_CHECKING:
    from bncheck.acceptance.suppressions import Suppression

ProfileChoice = Literal["auto", "deploy", "train"]
FailOn = Literal["error", "warning", "info", "never"]
Show = Literal["info"]

PROFILES: tuple[ProfileChoice, ...] = get_args(ProfileChoice)
FAIL_ON: tuple[FailOn, ...] = get_args(FailOn)
SHOW: tuple[Show, ...] = get_args(Show)
ALL = "ALL"


@dataclass(frozen=True, slots=True)
class Settings:
    """One layer of decisions: a configuration file, or the command line. None says nothing.

    ``select``, ``ignore`` and ``require`` hold rule ids, names, prefixes ("BN2") or "ALL";
    ``preview`` is for rules that are tried out: without it they run where named by id or name only.
    ``levels`` and ``options`` are keyed by rule id. ``assume_eval`` is true, or path patterns
    relative to the folder of ``file``, as ``baseline`` and the patterns of ``suppressions`` are.
    """

    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    suppressions: tuple[Suppression, ...] = ()
    require: tuple[str, ...] = ()
    profile: ProfileChoice | None = None
    preview: bool | None = None
    levels: Mapping[str, Level] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    assume_eval: bool | tuple[str, ...] = False
    baseline: str | None = None
    fail_on: FailOn | None = None
    show: Show | None = None
    file: Path | None = None


class Plan(NamedTuple):
    """What to run, how, and which rules must not stay open."""

    rules: tuple[Rule, ...]
    policy: Policy
    required: frozenset[str] = frozenset()
    suppressions: tuple[Suppression, ...] = ()
    file: Path | None = None  # the configuration, in whose folder the suppressions hold
    baseline: Path | None = None


def plan(*layers: Settings) -> Plan:
    """The rules and the policy that layers of settings ask for; a later layer wins.

    A ``select`` starts over; ``ignore`` and ``require`` take from and add to what came before.
    Raises ConfigurationError for an unknown rule, a rule both required and ignored, or no rule.
    """
    hidden = _previews(layers)
    chosen = frozenset(r.id for r in catalogue.load().values() if r.default) - hidden
    required: frozenset[str] = frozenset()
    for layer in layers:
        chosen = _after(layer, chosen) - hidden
        required |= expand_all(layer.require) - hidden
    if lost := sorted(required - chosen):
        raise ConfigurationError(f"{', '.join(lost)}: both required and ignored")
    if not chosen:
        raise ConfigurationError("no rule is left to run: everything is ignored")
    rules = tuple(rule for rule in catalogue.load().values() if rule.id in chosen)
    suppressions = tuple(each for layer in layers for each in layer.suppressions)
    file = next((layer.file for layer in layers if layer.file), None)
    known = [each.file.parent / each.baseline for each in layers if each.file and each.baseline]
    baseline = known[-1] if known else None
    return Plan(rules, _policy(layers), required, suppressions, file, baseline)


def _previews(layers: Iterable[Settings]) -> frozenset[str]:
    """The rules in preview that nothing asks for: a prefix does not mean them."""
    wanted = {word for layer in layers for word in (*(layer.select or ()), *layer.require)}
    named = {rule.id for rule in map(catalogue.find, wanted) if rule}
    asked = [layer.preview for layer in layers if layer.preview is not None]
    if asked and asked[-1]:
        return frozenset()
    return frozenset(r.id for r in catalogue.load().values() if r.in_preview) - named


def _after(layer: Settings, before: frozenset[str]) -> frozenset[str]:
    """What is chosen after a layer: the most specific word decides, ignore where two are equal."""
    chosen = before if layer.select is None else frozenset()
    words = [(word, True) for word in (*(layer.select or ()), *layer.require)]
    words += [(word, False) for word in layer.ignore]
    for word, wanted in sorted(words, key=lambda each: _specificity(each[0])):
        chosen = chosen | expand(word) if wanted else chosen - expand(word)
    return chosen


def _policy(layers: Iterable[Settings]) -> Policy:
    profile: ProfileChoice = "auto"
    levels: dict[str, Level] = {}
    options: dict[str, Mapping[str, object]] = {}
    for layer in layers:
        profile = layer.profile or profile
        levels.update(layer.levels)
        options.update(layer.options)
    return Policy(profile, levels, options)


def rule_named(word: str) -> Rule:
    """A rule by id or name. Raises ConfigurationError with a suggestion."""
    rule = catalogue.find(word)
    if rule is None:
        known = catalogue.load()
        names = (*known, *(rule.name for rule in known.values()))
        raise ConfigurationError(f"unknown rule {word!r}{suggestion(word, names)}")
    return rule


def expand_all(words: Iterable[str]) -> frozenset[str]:
    """The rules of several words, together."""
    return frozenset(rule for word in words for rule in expand(word))


def expand(word: str) -> frozenset[str]:
    """The ids of the rules that a word means: ALL, an id, a name, or a prefix of ids.

    Raises ConfigurationError where it means none.
    """
    wanted = word.strip().upper()
    known = catalogue.load()
    if wanted == ALL:
        return frozenset(known)
    if catalogue.find(word) is None and wanted:
        group = frozenset(rule for rule in known if rule.startswith(wanted))
        if group:
            return group
    return frozenset({rule_named(word).id})


def _specificity(word: str) -> float:
    """ALL below short prefixes, those below long ones, a single rule above everything."""
    if word.strip().upper() == ALL:
        return 0
    return float("inf") if catalogue.find(word) else len(word.strip())


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where something close is known, else nothing."""
    from difflib import get_close_matches

    by_fold = {each.lower(): each for each in known}
    close = get_close_matches(word.strip().lower(), by_fold, n=1)
    return f"; did you mean {by_fold[close[0]]!r}?" if close else ""
