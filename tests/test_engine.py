"""How rules are run over a model; the rules here are made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bncheck.catalogue import Rule, parse
from bncheck.engine import Assessment, Policy, assess
from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown
from bncheck.finding import Level, NotAssessed, Observation
from bncheck.model import Model, NormLayer

NO_MODE = Unknown("mode", "a state_dict holds none", "check the exported .onnx")
PAGE = """+++
id = "{id}"
name = "made-up"
level = "error"
kinds = {kinds}
evidence = {evidence}
default = true
status = "stable"
since = "0.1.0"
check = "made:up"
fix = "The page's fix."
{more}
+++
"""


def rule(
    check: Callable[..., Iterator[Observation]],
    id: str = "BN900",
    kinds: str = '["batch", "sync-batch", "frozen-batch"]',
    evidence: str = '["flags"]',
    more: str = "",
) -> Rule:
    made = parse(PAGE.format(id=id, kinds=kinds, evidence=evidence, more=more))
    vars(made)["check"] = check  # where the cached property keeps it
    return made


def layer(name: str = "bn", kind: Any = "batch", **facts: object) -> NormLayer:
    return NormLayer(name, kind, facts=facts)


def model(*layers: NormLayer, **fields: Any) -> Model:
    return Model("torch-zip", "module", layers, frozenset(), **fields)


def everywhere(layer: NormLayer) -> Iterator[Observation]:
    yield Observation("seen", {"name": layer.name})


def once(model: Model) -> Iterator[Observation]:
    yield Observation("seen")


def in_training(layer: NormLayer) -> Iterator[Observation]:
    if layer.training:
        yield Observation("in training")


def at(level: Level) -> Callable[[NormLayer], Iterator[Observation]]:
    def check(layer: NormLayer) -> Iterator[Observation]:
        yield Observation("seen", level=level)

    return check


def names(result: Assessment) -> list[tuple[str, str | None]]:
    return [(finding.rule, finding.layer) for finding in result.findings]


def test_a_check_of_layers_is_asked_for_each_and_one_of_models_once() -> None:
    pair = model(layer("a"), layer("b"))
    assert names(assess(pair, [rule(everywhere)])) == [("BN900", "a"), ("BN900", "b")]
    assert names(assess(pair, [rule(once)])) == [("BN900", None)]
    assert names(assess(model(), [rule(everywhere), rule(once)])) == [("BN900", None)]


def test_a_finding_takes_from_the_page_what_the_check_leaves_open() -> None:
    def own_fix(layer: NormLayer) -> Iterator[Observation]:
        yield Observation("seen", {"n": 1}, Level.INFO, "The check's fix.")

    (plain,) = assess(model(layer()), [rule(everywhere)]).findings
    assert (plain.level, plain.fix, plain.evidence) == (
        Level.ERROR,
        "The page's fix.",
        {"name": "bn"},
    )
    (own,) = assess(model(layer()), [rule(own_fix)]).findings
    assert (own.level, own.fix, own.evidence) == (Level.INFO, "The check's fix.", {"n": 1})


def test_a_check_may_ask_for_the_model_and_for_options() -> None:
    def check(layer: NormLayer, model: Model, *, limit: int = 1) -> Iterator[Observation]:
        if len(model.layers) > limit:
            yield Observation("many")

    pair = model(layer("a"), layer("b"))
    assert len(assess(pair, [rule(check)]).findings) == 2
    policy = Policy(options={"BN900": {"limit": 2}})
    assert assess(pair, [rule(check)], policy).findings == ()


@pytest.mark.parametrize(
    ("kinds", "asked"),
    [
        ('["batch"]', ["batch"]),
        ('["rms", "layer"]', ["layer"]),
        ('["group"]', ["unknown"]),
        ('["layer"]', ["layer", "unknown"]),
        ('"all"', ["batch", "layer", "unknown"]),
    ],
)
def test_kinds(kinds: str, asked: list[str]) -> None:
    """A layer of unknown kind is for rules that hold for every kind, or for what it may be."""
    three = model(layer("batch"), layer("layer", "layer"), layer("unknown", None))
    found = assess(three, [rule(everywhere, kinds=kinds)])
    assert [name for _, name in names(found)] == asked


@pytest.mark.parametrize(
    ("asked", "training_state", "profile", "reason"),
    [
        ("auto", None, "deploy", "nothing says that training goes on"),
        ("auto", "optimizer state", "train", "a training checkpoint: optimizer state"),
        ("deploy", "optimizer state", "deploy", "as asked"),
        ("train", None, "train", "as asked"),
    ],
)
def test_profile(asked: Any, training_state: str | None, profile: str, reason: str) -> None:
    result = assess(model(training_state=training_state), [], Policy(profile=asked))
    assert (result.profile, result.profile_reason) == (profile, reason)


@pytest.mark.parametrize(
    ("check", "profile", "levels", "level"),
    [
        (everywhere, "deploy", {}, Level.ERROR),
        (everywhere, "train", {}, Level.WARNING),
        (at(Level.INFO), "deploy", {}, Level.INFO),
        (at(Level.INFO), "train", {}, Level.INFO),  # train makes quieter, never louder
        (everywhere, "deploy", {"BN900": Level.INFO}, Level.INFO),
        (at(Level.INFO), "train", {"BN900": Level.ERROR}, Level.ERROR),  # the user's word is last
        (everywhere, "deploy", {"BN901": Level.INFO}, Level.ERROR),
    ],
)
def test_level(check: Any, profile: Any, levels: Any, level: Level) -> None:
    made = rule(check, more='train = "warning"')
    (finding,) = assess(model(layer()), [made], Policy(profile, levels)).findings
    assert finding.level is level


def only(name: str) -> Callable[[NormLayer], Iterator[Observation]]:
    def check(layer: NormLayer) -> Iterator[Observation]:
        if layer.name == name:
            yield Observation("cause")

    return check


SILENCED = 'silenced_by = ["BN901"]'


def test_a_cause_silences_its_consequence_at_the_same_layer() -> None:
    pair = model(layer("a"), layer("b"))
    rules = [rule(everywhere, more=SILENCED), rule(only("a"), "BN901")]
    assert names(assess(pair, rules)) == [("BN900", "b"), ("BN901", "a")]


def test_a_cause_of_the_model_silences_everywhere() -> None:
    pair = model(layer("a"), layer("b"))
    rules = [rule(everywhere, more=SILENCED), rule(once, "BN901")]
    assert names(assess(pair, rules)) == [("BN901", None)]


def test_a_cause_that_is_itself_silenced_still_silences() -> None:
    rules = [
        rule(everywhere, more=SILENCED),
        rule(everywhere, "BN901", more='silenced_by = ["BN902"]'),
        rule(everywhere, "BN902"),
    ]
    assert names(assess(model(layer()), rules)) == [("BN902", "bn")]


def test_a_cause_that_is_not_asked_for_silences_nothing() -> None:
    assert len(assess(model(layer()), [rule(everywhere, more=SILENCED)]).findings) == 1


def test_a_fact_that_is_nowhere_known_is_missing_once() -> None:
    pair = model(layer("a", training=NO_MODE), layer("b", training=NO_MODE))
    result = assess(pair, [rule(in_training)])
    assert result.not_assessed == (NotAssessed("BN900", None, NO_MODE),)
    assert result.not_assessed[0].reason == (
        "mode: a state_dict holds none; check the exported .onnx"
    )
    assert result.assessed == ()


def test_a_fact_that_is_known_of_some_layers_is_missing_at_the_others() -> None:
    pair = model(layer("a", training=True), layer("b", training=NO_MODE))
    result = assess(pair, [rule(in_training)])
    assert names(result) == [("BN900", "a")]
    assert result.not_assessed == (NotAssessed("BN900", "b", NO_MODE),)
    assert result.assessed == ("BN900",)


def test_different_reasons_are_not_merged() -> None:
    pair = model(layer("a", training=NO_MODE), layer("b", training=Unknown("mode", "lost")))
    missing = assess(pair, [rule(in_training)]).not_assessed
    assert [each.layer for each in missing] == ["a", "b"]


def test_what_was_found_before_a_fact_was_missing_is_kept() -> None:
    def check(layer: NormLayer) -> Iterator[Observation]:
        yield Observation("first")
        if layer.training:
            yield Observation("second")

    result = assess(model(layer()), [rule(check)])
    assert [finding.message for finding in result.findings] == ["first"]
    assert [each.layer for each in result.not_assessed] == [None]


def test_one_rule_that_cannot_be_judged_leaves_the_others() -> None:
    result = assess(model(layer()), [rule(in_training), rule(everywhere, "BN901")])
    assert names(result) == [("BN901", "bn")]
    assert result.assessed == ("BN901",)


GONE = Unknown("statistics", "BatchNorm was folded by the exporter", "check the checkpoint")
TENSORS = '["tensors"]'


@pytest.mark.parametrize(
    ("evidence", "kinds", "layers", "open_"),
    [
        (TENSORS, '["batch"]', (), True),
        (TENSORS, '["batch"]', (layer("ln", "layer"),), True),
        (TENSORS, '["batch"]', (layer(),), False),  # some are left
        (TENSORS, '"all"', (), False),
        ('["tensors", "graph"]', '["batch"]', (), True),
        ('["flags", "graph"]', '["batch"]', (), False),
    ],
)
def test_a_graph_without_its_batch_norms_proves_nothing_about_statistics(
    evidence: str, kinds: str, layers: tuple[NormLayer, ...], open_: bool
) -> None:
    made = rule(everywhere, kinds=kinds, evidence=evidence)
    result = assess(model(*layers, statistics_gone=GONE), [made])
    assert result.not_assessed == ((NotAssessed("BN900", None, GONE),) if open_ else ())
    assert result.assessed == (() if open_ else ("BN900",))


def test_a_model_without_layers_satisfies_a_rule() -> None:
    result = assess(model(), [rule(everywhere, evidence=TENSORS)])
    assert (result.assessed, result.not_assessed) == (("BN900",), ())


def test_a_broken_file_is_not_a_fact_that_is_missing() -> None:
    def check(layer: NormLayer) -> Iterator[Observation]:
        raise UnreadableModel("is damaged")
        yield

    with pytest.raises(UnreadableModel, match="is damaged"):
        assess(model(layer()), [rule(check)])
