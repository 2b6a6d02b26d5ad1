"""BN1xx on facts made by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from bncheck.checks.mode import (
    active_dropout,
    batch_statistics_at_inference,
    half_frozen,
    mixed_mode,
    tracking_flag_conflict,
    training_mode,
)
from bncheck.facts import UnknownFact

WEIGHT = [1.0, 2.0]


def in_graph(make: Any, data: str = "x", **facts: object) -> tuple[Any, Any]:
    """A BatchNorm of an ONNX graph, on the input x or on a value that no input reaches."""
    call = make.node("batch-norm", data, "y", training=facts.get("training", False))
    layer = make.layer(calls=(call,), **facts)
    return layer, make.model(layer, content="graph", graph=make.graph(call))


@pytest.mark.parametrize(
    ("fields", "level", "beginning"),
    [
        ({}, None, "Saved in training mode: unless the loader calls eval(), each output"),
        ({"format": "module"}, None, "In training mode: until eval() is called, each output"),
        (
            {"loader_calls_eval": "MLflow's pyfunc flavour"},
            "info",
            "Saved in training mode; switched to eval mode after loading by MLflow's pyfunc",
        ),
    ],
)
def test_training_mode_of_a_module(make: Any, fields: Any, level: Any, beginning: str) -> None:
    layer = make.layer(training=True)
    ((found, message),) = make.seen(training_mode(layer, make.model(layer, **fields)))
    assert found == level
    assert message.startswith(beginning)


def test_eval_mode_is_healthy(make: Any) -> None:
    layer = make.layer(training=False)
    assert make.seen(training_mode(layer, make.model(layer))) == []
    assert make.seen(training_mode(*in_graph(make, training=False))) == []


def test_training_mode_reads_the_same_for_all_layers_of_a_model(make: Any) -> None:
    layers = [make.layer(name=name, training=True) for name in ("bn1", "layer1.0.bn2")]
    model = make.model(*layers)
    assert (
        len({message for la in layers for _, message in make.seen(training_mode(la, model))}) == 1
    )


def test_training_mode_in_a_graph_cannot_be_repaired_by_eval(make: Any) -> None:
    (observation,) = training_mode(*in_graph(make, training=True))
    assert observation.level is None
    assert "eval() cannot repair a graph" in observation.message
    assert observation.fix is not None and "Export again" in observation.fix


def test_weight_standardization_normalizes_a_parameter_not_data(make: Any) -> None:
    layer, model = in_graph(make, data="conv.weight", training=True, has_running_stats=False)
    assert make.seen(training_mode(layer, model)) == []
    assert make.seen(batch_statistics_at_inference(layer, model)) == []


def test_instance_norm_decomposed_to_one_sample_is_healthy(make: Any) -> None:
    """(N, C, H, W) becomes (1, N * C, H, W): statistics of an instance, not of a batch."""
    flat = make.node("reshape", "x", "flat")
    call = make.node("batch-norm", "flat", "y", training=True)
    layer = make.layer(calls=(call,), training=True, has_running_stats=False)
    graph = make.graph(flat, call, shapes={"flat": (1, 6, 5, 5)})
    model = make.model(layer, content="graph", graph=graph)
    assert make.seen(batch_statistics_at_inference(layer, model)) == []
    assert make.seen(training_mode(layer, model)) == []


def test_a_model_exported_for_one_sample_is_still_in_training_mode(make: Any) -> None:
    flat = make.node("reshape", "x", "flat")
    call = make.node("batch-norm", "flat", "y", training=True)
    layer = make.layer(calls=(call,), training=True, has_running_stats=True)
    graph = make.graph(flat, call, shapes={"flat": (1, 6, 5)})
    assert make.seen(training_mode(layer, make.model(layer, content="graph", graph=graph)))


@pytest.mark.parametrize("check", [training_mode, batch_statistics_at_inference, half_frozen])
def test_a_state_dict_has_no_mode(make: Any, check: Any) -> None:
    layer = make.layer(weight=WEIGHT)
    with pytest.raises(UnknownFact):
        list(check(layer, make.model(layer, content="state_dict")))


@pytest.mark.parametrize(
    ("attributes", "data", "drops"),
    [
        ({"training": True, "p": 0.5}, "x", True),
        ({"training": True}, "x", True),  # the default ratio is 0.5
        ({"training": True, "p": 0}, "x", False),
        ({"training": False, "p": 0.5}, "x", False),
        ({"p": 0.5}, "x", False),  # before opset 12, and where no flag is given
        ({"training": True, "p": 0.5}, "constant", False),
    ],
)
def test_active_dropout(make: Any, attributes: Any, data: str, drops: bool) -> None:
    graph = make.graph(make.node("dropout", data, "y", **attributes))
    assert bool(make.seen(active_dropout(make.model(content="graph", graph=graph)))) is drops


def test_active_dropout_is_said_once_for_a_model(make: Any) -> None:
    values = ["x", *(f"drop{n}" for n in range(5))]
    pairs = pairwise(values)
    nodes = [make.node("dropout", i, o, training=True) for i, o in pairs]
    (observation,) = active_dropout(make.model(content="graph", graph=make.graph(*nodes)))
    assert observation.message.startswith(
        "5 Dropout active at inference (drop0, drop1, drop2, ... +2): the outputs are random."
    )
    assert observation.evidence["count"] == 5


@pytest.mark.parametrize(
    ("container", "batch_norm_trains", "hinted"),
    [
        ("onnx", None, True),
        ("onnx", False, True),
        ("onnx", True, False),
        ("torch-export", None, False),
    ],
)
def test_active_dropout_names_the_exporter_that_hides_training_mode(
    make: Any, container: str, batch_norm_trains: bool | None, hinted: bool
) -> None:
    layers = [] if batch_norm_trains is None else [make.layer(training=batch_norm_trains)]
    graph = make.graph(make.node("dropout", "x", "y", training=True))
    model = make.model(*layers, content="graph", format=container, graph=graph)
    ((_, message),) = make.seen(active_dropout(model))
    assert ("default exporter" in message) is hinted


TRAINS, RESTS = {"training": True}, {"training": False}
FROZEN = {"training": False, "requires_grad": False}


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ([TRAINS, RESTS], True),
        ([TRAINS, {**RESTS, "requires_grad": True}], True),
        ([TRAINS, TRAINS], False),
        ([RESTS, RESTS], False),
        ([TRAINS], False),
        ([], False),
        ([TRAINS, FROZEN, FROZEN], False),  # a frozen backbone under a head in training
        ([TRAINS, {**RESTS, "affine": False, "requires_grad": False}], False),
        ([TRAINS, FROZEN, RESTS], True),
        ([{**TRAINS, "has_running_stats": False}, RESTS], False),  # BN104 says it
    ],
)
def test_mixed_mode(make: Any, layers: list[dict[str, object]], found: bool) -> None:
    model = make.model(*(make.layer(name=f"bn{n}", **facts) for n, facts in enumerate(layers)))
    assert bool(make.seen(mixed_mode(model))) is found


def test_mixed_mode_says_which_layers(make: Any) -> None:
    modes = [True, False, False, False, False, False]
    model = make.model(*(make.layer(name=f"bn{n}", training=t) for n, t in enumerate(modes)))
    (observation,) = mixed_mode(model)
    assert observation.message.startswith(
        "1 BatchNorm in training mode (bn0), 5 in eval mode (bn1, bn2, bn3, ... +2) but not frozen"
    )
    assert observation.evidence["eval_layers"] == ["bn1", "bn2", "bn3", "bn4", "bn5"]


def test_mixed_mode_counts_no_norm_that_mode_does_not_switch(make: Any) -> None:
    layers = [make.layer(training=True)]
    layers += [make.layer(kind, training=False) for kind in ("group", "layer", "frozen-batch")]
    assert make.seen(mixed_mode(make.model(*layers))) == []


def test_mixed_mode_needs_every_mode(make: Any) -> None:
    with pytest.raises(UnknownFact):
        list(mixed_mode(make.model(make.layer(training=True), make.layer())))


def test_mixed_mode_is_quiet_where_eval_follows(make: Any) -> None:
    layers = [make.layer(training=True), make.layer(training=False)]
    ((level, _),) = make.seen(mixed_mode(make.model(*layers, loader_calls_eval="assume-eval")))
    assert level == "info"


@pytest.mark.parametrize(("has_running_stats", "found"), [(False, True), (True, False)])
def test_batch_statistics_at_inference(make: Any, has_running_stats: bool, found: bool) -> None:
    for layer, model in (
        in_graph(make, has_running_stats=has_running_stats),
        ((module := make.layer(has_running_stats=has_running_stats)), make.model(module)),
    ):
        assert bool(make.seen(batch_statistics_at_inference(layer, model))) is found


@pytest.mark.parametrize("kind", ["frozen-batch", "instance", "group", "layer", "rms"])
def test_other_kinds_have_no_batch_statistics(make: Any, kind: Any) -> None:
    layer = make.layer(kind, has_running_stats=False)
    assert make.seen(batch_statistics_at_inference(layer, make.model(layer))) == []


def test_a_layer_of_unknown_kind_may_be_a_batch_norm_without_statistics(make: Any) -> None:
    layer = make.layer(None, weight=WEIGHT, bias=WEIGHT)
    with pytest.raises(UnknownFact, match="do not tell LayerNorm from a BatchNorm"):
        list(batch_statistics_at_inference(layer, make.model(layer, content="state_dict")))


def test_a_lone_weight_is_no_batch_norm(make: Any) -> None:
    layer = make.layer(None, weight=WEIGHT, bias=None)
    assert make.seen(batch_statistics_at_inference(layer, make.model(layer))) == []


@pytest.mark.parametrize(
    ("track", "mean", "found"),
    [(False, [0.5], True), (True, [0.5], False), (False, None, False)],
)
def test_tracking_flag_conflict(make: Any, track: bool, mean: Any, found: bool) -> None:
    layer = make.layer(track_running_stats=track, running_mean=mean)
    assert bool(make.seen(tracking_flag_conflict(layer))) is found


@pytest.mark.parametrize(
    ("training", "requires_grad", "weight", "found"),
    [
        (True, False, WEIGHT, True),
        (True, True, WEIGHT, False),
        (False, False, WEIGHT, False),  # wholly frozen, as it should be
        (False, True, WEIGHT, False),  # eval mode with a trainable affine: a recipe of detectors
        (True, False, None, False),  # nothing to freeze
    ],
)
def test_half_frozen(
    make: Any, training: bool, requires_grad: bool, weight: Any, found: bool
) -> None:
    layer = make.layer(training=training, requires_grad=requires_grad, weight=weight)
    assert bool(make.seen(half_frozen(layer, make.model(layer)))) is found
