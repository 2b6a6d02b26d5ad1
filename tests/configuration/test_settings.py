"""Which rules run, at what level, when layers of settings meet."""

from __future__ import annotations

import pytest

from bncheck import catalogue
from bncheck.configuration.settings import Settings, expand, plan
from bncheck.errors import ConfigurationError
from bncheck.finding import Level

EVERY_RULE = frozenset(catalogue.load())
PREVIEWS = frozenset(rule.id for rule in catalogue.load().values() if rule.in_preview)
STATISTICS = frozenset(rule for rule in EVERY_RULE if rule.startswith("BN2"))
STABLE_STATISTICS = STATISTICS - PREVIEWS
BY_DEFAULT = frozenset(rule.id for rule in catalogue.load().values() if rule.default) - PREVIEWS


def chosen(*layers: Settings) -> frozenset[str]:
    return frozenset(rule.id for rule in plan(*layers).rules)


@pytest.mark.parametrize(
    ("word", "rules"),
    [
        ("BN201", {"BN201"}),
        ("bn201", {"BN201"}),
        ("negative-variance", {"BN202"}),
        ("BN2", STATISTICS),
        ("bn2", STATISTICS),
        ("ALL", EVERY_RULE),
        ("BN", EVERY_RULE),
    ],
)
def test_a_word_means_rules(word: str, rules: frozenset[str]) -> None:
    assert expand(word) == rules


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("negative-varience", "did you mean 'negative-variance'?"),
        ("BN4O1", "did you mean 'BN401'?"),
        ("", "unknown rule ''"),
        ("xyzzy", "unknown rule 'xyzzy'"),
    ],
)
def test_an_unknown_word_is_refused_with_a_hint(word: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match="unknown rule") as raised:
        expand(word)
    assert hint in str(raised.value)


@pytest.mark.parametrize(
    ("layers", "rules"),
    [
        ([], BY_DEFAULT),
        ([Settings(select=("BN2",))], STABLE_STATISTICS),
        ([Settings(ignore=("BN2",))], BY_DEFAULT - STATISTICS),
        ([Settings(select=("BN2",), ignore=("BN202",))], STABLE_STATISTICS - {"BN202"}),
        # the more specific word decides, whatever the order
        ([Settings(select=("BN202",), ignore=("BN2",))], {"BN202"}),
        ([Settings(select=("ALL",), ignore=("BN2",))], EVERY_RULE - STATISTICS - PREVIEWS),
        ([Settings(select=("BN202", "BN201"), ignore=("BN202",))], {"BN201"}),
        # a later select starts over, a later ignore takes away
        ([Settings(ignore=("BN202",)), Settings(select=("BN202",))], {"BN202"}),
        ([Settings(select=("BN201", "BN202")), Settings(ignore=("BN202",))], {"BN201"}),
        ([Settings(select=("BN201",)), Settings(ignore=("BN202",))], {"BN201"}),
        # what is required runs
        ([Settings(select=("BN201",), require=("BN101",))], {"BN101", "BN201"}),
        ([Settings(ignore=("BN101",)), Settings(require=("BN101",))], BY_DEFAULT),
    ],
)
def test_layers_choose_rules(layers: list[Settings], rules: frozenset[str]) -> None:
    assert chosen(*layers) == rules


@pytest.mark.parametrize(
    "layers",
    [
        [Settings(require=("BN101",), ignore=("BN101",))],
        [Settings(require=("BN101",)), Settings(ignore=("BN1",))],
        [Settings(require=("BN101",)), Settings(select=("BN2",))],
    ],
)
def test_a_requirement_is_never_dropped_silently(layers: list[Settings]) -> None:
    with pytest.raises(ConfigurationError, match="BN101"):
        plan(*layers)


@pytest.mark.parametrize(
    ("layers", "rules"),
    [
        ([Settings(preview=True)], BY_DEFAULT | PREVIEWS),
        ([Settings(preview=True), Settings()], BY_DEFAULT | PREVIEWS),
        ([Settings(preview=True), Settings(preview=False)], BY_DEFAULT),
        ([Settings(preview=True, select=("BN2",))], STATISTICS),
        ([Settings(preview=True, ignore=("BN211",))], (BY_DEFAULT | PREVIEWS) - {"BN211"}),
        # a name asks for a rule in preview, a prefix does not
        ([Settings(select=("BN211",))], {"BN211"}),
        ([Settings(select=("folded-twice", "BN2"))], STABLE_STATISTICS | {"BN703"}),
        ([Settings(require=("BN211",))], BY_DEFAULT | {"BN211"}),
        ([Settings(require=("BN2",))], BY_DEFAULT),
    ],
)
def test_rules_in_preview_run_where_asked_for(
    layers: list[Settings], rules: frozenset[str]
) -> None:
    assert chosen(*layers) == rules


def test_a_prefix_requires_no_rule_in_preview() -> None:
    assert plan(Settings(require=("BN2",))).required == STABLE_STATISTICS
    assert plan(Settings(require=("BN2",), preview=True)).required == STATISTICS


def test_a_run_without_rules_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no rule"):
        plan(Settings(ignore=("ALL",)))


def test_later_levels_and_profiles_win() -> None:
    file = Settings(profile="train", levels={"BN101": Level.INFO, "BN207": Level.ERROR})
    policy = plan(file, Settings(levels={"BN101": Level.WARNING})).policy
    assert policy.profile == "train"
    assert policy.levels == {"BN101": Level.WARNING, "BN207": Level.ERROR}
    assert plan(file, Settings(profile="deploy")).policy.profile == "deploy"
