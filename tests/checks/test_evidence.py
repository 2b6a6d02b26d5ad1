"""What a check cannot do without is among the evidence that its page names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bncheck import catalogue
from bncheck.catalogue import Rule
from bncheck.facts import Fact, Unknown, UnknownFact
from bncheck.model import BatchSize, Model, NormLayer

RULES = list(catalogue.load().values())
LAYER_FACTS = {name: fact for name, fact in vars(NormLayer).items() if isinstance(fact, Fact)}
MODEL_FACTS = {name: fact for name, fact in vars(Model).items() if isinstance(fact, Fact)}

HEALTHY: dict[str, object] = {
    "num_features": 2,
    "num_groups": 1,
    "eps": 1e-5,
    "momentum": 0.1,
    "affine": True,
    "track_running_stats": True,
    "training": False,
    "has_running_stats": True,
    "requires_grad": True,
    "running_mean": [0.3, -0.1],
    "running_var": [0.8, 2.5],
    "num_batches_tracked": 900,
    "weight": [0.9, 1.2],
    "bias": [0.1, -0.2],
    "foreign_names": {},
}
ROLES = ("weight", "bias")
DERIVED = {"mean of the input"}  # what a check may lack although it knows every fact
CASES: list[dict[str, object]] = [
    {},
    {"training": True, "requires_grad": False},
    {"track_running_stats": False},
    {"has_running_stats": False},
    {"running_mean": [0.0, 0.0], "running_var": [1.0, 1.0], "num_batches_tracked": 0},
    {"running_mean": [0.0, 0.0], "running_var": [1.0, 1.0]},
    {"running_var": [-1.0, 0.0]},
    {"weight": [0.0, 0.0]},
    {"eps": 0.8, "momentum": 0.9},
    {"num_features": 3},
    {"num_batches_tracked": 3},
]
LAYERS: dict[str, dict[str, object]] = {
    "a": {},
    "b": {"training": True},
    "sync": {"kind": "sync-batch"},
    "instance": {"kind": "instance", "has_running_stats": False},
    "group": {"kind": "group"},
}


def models(make: Any, **missing: object) -> Iterator[Model]:
    """A module and a graph for each case, with everything known but what is missing."""
    for case in CASES:
        for content in ("module", "graph"):
            conv = make.node("conv", "x", "c", {"weight": [1.0, 1.0], "bias": [0.0, 0.0]})
            call = make.node("batch-norm", "c", "y", HEALTHY | case, num_groups=1)
            facts = {**HEALTHY, **case, "calls": (call,)}
            layers = [
                make.layer(
                    name=name,
                    class_path="Norm",
                    **facts | given | {k: missing[k] for k in missing if k in facts},
                )
                for name, given in LAYERS.items()
            ]
            dropout = make.node("dropout", "y", "z", p=0.5, training=False)
            graph = make.graph(conv, call, dropout, shapes={"c": (1, 2, 1, 1)})
            known = {"graph": graph, "order": graph, "batch_size": BatchSize(2, "here")}
            known["weight_decay"] = {f"{la}.{role}": 0.1 for la in LAYERS for role in ROLES}
            known["optimizer_dtypes"] = frozenset({"float32"})
            known |= {name: missing[name] for name in missing if name in known}
            yield make.model(*layers, content=content, **known)


def cannot_do_without(rule: Rule, make: Any, name: str) -> bool:
    """Whether the check stops at some model that does not know this one fact."""
    return any(stops(rule, model, name) for model in models(make, **{name: Unknown(name, "")}))


def stops(rule: Rule, model: Model, name: str) -> bool:
    context = {"model": model} if rule.wants_model else {}
    for target in (model,) if rule.scope == "model" else model.layers:
        try:
            list(rule.check(target, **context))
        except UnknownFact as error:
            assert error.unknown.what in {name, *DERIVED}
            if error.unknown.what == name:
                return True
    return False


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_evidence_covers_what_the_check_reads(rule: Rule, make: Any) -> None:
    needed = {
        name: fact
        for name, fact in (LAYER_FACTS | MODEL_FACTS).items()
        if cannot_do_without(rule, make, name)
    }
    assert needed, "a check that needs no fact is none"
    assert {name for name, fact in needed.items() if not fact.evidence & rule.evidence} == set()


def test_the_facts_of_a_layer_are_all_in_the_table() -> None:
    assert {*HEALTHY, "calls"} == set(LAYER_FACTS)
